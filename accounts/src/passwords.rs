//! Customers' passwords: how strong one must be, and how it is turned into what the store keeps.

use std::{fmt, hint::black_box, sync::Arc, thread, time::Duration};

use argon2::{
    Algorithm, Argon2, Params, PasswordHash, PasswordHasher as _, PasswordVerifier, Version,
    password_hash::SaltString,
};
use rand_core::OsRng;
use rustix::process::setpriority_process;
use tokio::{
    sync::{Semaphore, oneshot},
    time::timeout,
};
use zeroize::Zeroizing;
use zxcvbn::feedback::{Suggestion, Warning};

/// Longest password in bytes. Whoever hashes longer ones can be kept busy.
pub(crate) const MAX_LEN: usize = 256;

/// Argon2id's cost: 19 MiB, two passes, one lane (OWASP Password Storage Cheat Sheet).
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// Who hashes lets go first whoever carries packets, and control.
const NICENESS: i32 = 15;

/// How many passwords are hashed at once, whatever the number of processors: each takes 19 MiB meanwhile.
const MOST_AT_ONCE: usize = 4;

/// How many more may wait, and for how long: a change of password waits twice, and a page may take half a minute, so that
/// who waits in vain is told why.
const MOST_WAITING: usize = 64;
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a password is not taken. Never contains it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Empty or too long.
    #[error("a password has 1 to {MAX_LEN} bytes")]
    Length,
    /// Too easily guessed.
    #[error("this password is too easily guessed: {}", sentence(.0))]
    Weak(Vec<PasswordHint>),
    /// Too many are being hashed.
    #[error("too many passwords are being checked now; try again in a moment")]
    Busy,
}

/// What makes a password weak, or would make it stronger.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PasswordHint {
    /// What makes it weak.
    Warning(Warning),
    /// What would make it stronger.
    Suggestion(Suggestion),
    /// What makes any password strong.
    UseSeveralWords,
}

impl Eq for PasswordHint {}

impl PasswordHint {
    /// The hint's name, as zxcvbn has it.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Warning(warning) => format!("{warning:?}"),
            Self::Suggestion(suggestion) => format!("{suggestion:?}"),
            Self::UseSeveralWords => "UseSeveralWords".to_owned(),
        }
    }
}

impl fmt::Display for PasswordHint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Warning(warning) => warning.fmt(f),
            Self::Suggestion(suggestion) => suggestion.fmt(f),
            Self::UseSeveralWords => f.write_str("Use several words that do not belong together"),
        }
    }
}

fn sentence(hints: &[PasswordHint]) -> String {
    let hints = hints.iter().map(|hint| hint.to_string().trim_end_matches('.').to_owned());
    hints.collect::<Vec<_>>().join("; ")
}

/// A password as its customer typed it; wiped when dropped, printed as `[redacted]`.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// Takes a text as a password.
    ///
    /// # Errors
    /// [`PasswordError::Length`]
    pub fn new(text: &str) -> Result<Self, PasswordError> {
        if !(1..=MAX_LEN).contains(&text.len()) {
            return Err(PasswordError::Length);
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// Refuses a password that is guessed in fewer than 10^8 tries (zxcvbn's score 3); `known` is what a guesser knows
    /// of its customer, as the e-mail address.
    ///
    /// # Errors
    /// [`PasswordError::Weak`] with a hint how to make it better.
    pub fn check_strength(&self, known: &[&str]) -> Result<(), PasswordError> {
        let separators = |c: char| !c.is_alphanumeric();
        let parts: Vec<&str> =
            known.iter().flat_map(|text| text.split('@').chain(text.split(separators))).collect();
        let guessed = zxcvbn::zxcvbn(&self.0, &[known, &parts[..]].concat());
        if guessed.score() >= zxcvbn::Score::Three {
            return Ok(());
        }
        let feedback = guessed.feedback();
        let warning = feedback.and_then(|feedback| feedback.warning());
        let suggestions = feedback.map(|feedback| feedback.suggestions()).unwrap_or_default();
        let suggestions = suggestions.iter().copied().map(PasswordHint::Suggestion);
        let mut hints: Vec<_> =
            warning.map(PasswordHint::Warning).into_iter().chain(suggestions).collect();
        if hints.is_empty() {
            hints.push(PasswordHint::UseSeveralWords);
        }
        Err(PasswordError::Weak(hints))
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// What is kept of a password: its Argon2id hash in PHC's form. Printed as `[redacted]`.
#[derive(Clone)]
pub struct HashedPassword(Zeroizing<String>);

impl HashedPassword {
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    pub(crate) fn read(text: Zeroizing<String>) -> Self {
        Self(text)
    }
}

impl fmt::Debug for HashedPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// How many passwords are hashed at once on so many processors: half of these are left to packets alone, for also who goes
/// last takes some of a busy processor, and of its cache.
fn at_once(processors: usize) -> usize {
    (processors / 2).clamp(1, MOST_AT_ONCE)
}

/// Hashes passwords, a few at a time, so that nobody can take all memory by trying many at once. Clones share it.
#[derive(Clone, Debug)]
pub struct PasswordHasher {
    places: Arc<Semaphore>,
    queue: Arc<Semaphore>,
}

impl PasswordHasher {
    /// Takes no memory before the first password comes.
    #[must_use]
    pub fn new() -> Self {
        let at_once = at_once(thread::available_parallelism().map_or(1, usize::from));
        Self {
            places: Arc::new(Semaphore::new(at_once)),
            queue: Arc::new(Semaphore::new(at_once + MOST_WAITING)),
        }
    }

    /// Hashes a new password.
    ///
    /// # Errors
    /// [`PasswordError::Busy`]
    pub async fn hash(&self, password: &Password) -> Result<HashedPassword, PasswordError> {
        let password = password.clone();
        self.in_turn(move || hash(&password)).await
    }

    /// Whether `password` is the one that was hashed. Where there is none, it is not, and that takes as long to tell.
    ///
    /// # Errors
    /// [`PasswordError::Busy`]
    pub async fn verify(
        &self,
        password: &Password,
        hashed: Option<HashedPassword>,
    ) -> Result<bool, PasswordError> {
        let password = password.clone();
        self.in_turn(move || match hashed {
            Some(hashed) => verify(&password, &hashed),
            None => {
                // The same work, or the time would tell whether there is such an account.
                black_box(hash(&password));
                false
            }
        })
        .await
    }

    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PasswordError> {
        let queued = self.queue.try_acquire().map_err(|_| PasswordError::Busy)?;
        let places = Arc::clone(&self.places);
        let place = timeout(PATIENCE, places.acquire_owned()).await;
        let place = place.ok().and_then(Result::ok).ok_or(PasswordError::Busy)?;
        let (answer, done) = oneshot::channel();
        // Of its own, because it cannot get its place back.
        let thread = thread::Builder::new().name("password".to_owned()).spawn(move || {
            let _ = setpriority_process(None, NICENESS);
            let _ = answer.send(work());
            // Not before: who asked may be gone while this still runs.
            drop(place);
        });
        thread.map_err(|_| PasswordError::Busy)?;
        let done = done.await.map_err(|_| PasswordError::Busy);
        drop(queued);
        done
    }
}

impl Default for PasswordHasher {
    fn default() -> Self {
        Self::new()
    }
}

fn argon2() -> Argon2<'static> {
    let params =
        Params::new(MEMORY_KIB, PASSES, LANES, None).expect("OWASP's parameters are valid");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

fn hash(password: &Password) -> HashedPassword {
    let salt = SaltString::generate(&mut OsRng);
    let hashed = argon2().hash_password(password.0.as_bytes(), &salt);
    HashedPassword(Zeroizing::new(hashed.expect("a password is not too long").to_string()))
}

fn verify(password: &Password, hashed: &HashedPassword) -> bool {
    PasswordHash::new(&hashed.0)
        .is_ok_and(|hashed| argon2().verify_password(password.0.as_bytes(), &hashed).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Password {
        Password::new(text).unwrap()
    }

    #[tokio::test]
    async fn only_the_right_password_verifies() {
        let hasher = PasswordHasher::new();
        let hashed = hasher.hash(&password("correct horse")).await.unwrap();
        assert!(hashed.expose().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        let verify = |text: &str, hashed| {
            let (hasher, password) = (hasher.clone(), password(text));
            async move { hasher.verify(&password, hashed).await.unwrap() }
        };
        assert!(verify("correct horse", Some(hashed.clone())).await);
        assert!(!verify("correct horsf", Some(hashed.clone())).await);
        assert!(!verify("correct horse", None).await);
        let again = hasher.hash(&password("correct horse")).await.unwrap();
        assert_ne!(again.expose(), hashed.expose(), "no salt");
    }

    #[tokio::test]
    async fn too_many_at_once_are_refused_and_memory_is_bounded() {
        let hasher = PasswordHasher::new();
        let mut waiting = Vec::new();
        for _ in 0..200 {
            let hasher = hasher.clone();
            waiting.push(tokio::spawn(async move { hasher.hash(&password("x")).await.map(drop) }));
        }
        let mut refused = 0;
        for attempt in waiting {
            refused += u32::from(attempt.await.unwrap() == Err(PasswordError::Busy));
        }
        assert!((100..200).contains(&refused), "{refused}");
        assert!(hasher.places.available_permits() <= MOST_AT_ONCE);
        hasher.hash(&password("x")).await.unwrap();
    }

    #[test]
    fn half_of_the_processors_hash_nothing() {
        let counts = [1, 2, 3, 4, 8, 64].map(at_once);
        assert_eq!(counts, [1, 1, 1, 2, 4, 4]);
        let processors = thread::available_parallelism().unwrap().get();
        assert_eq!(PasswordHasher::new().places.available_permits(), at_once(processors));
    }

    #[test]
    fn weak_password_is_refused_with_a_hint() {
        for weak in ["letmein1", "12345678", "ann.lee1985", "qwertyuiop", "aaaaaaaaaaaa"] {
            let error = password(weak).check_strength(&["ann.lee@example.org"]).unwrap_err();
            assert!(matches!(error, PasswordError::Weak(_)), "{error}");
            assert!(error.to_string().len() > 50 && !error.to_string().contains(weak), "{error}");
            assert_eq!(error.to_string().lines().count(), 1);
        }
        password("thimble-orbit-canvas-7").check_strength(&["ann.lee@example.org"]).unwrap();
    }

    #[test]
    fn length_is_bounded() {
        assert_eq!(Password::new("").unwrap_err(), PasswordError::Length);
        assert_eq!(Password::new(&"a".repeat(257)).unwrap_err(), PasswordError::Length);
        Password::new(&"a".repeat(256)).unwrap();
    }

    #[test]
    fn printing_shows_nothing() {
        assert_eq!(format!("{:?}", password("secret")), "[redacted]");
        assert_eq!(format!("{:?}", hash(&password("secret"))), "[redacted]");
    }
}
