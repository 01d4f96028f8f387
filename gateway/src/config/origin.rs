//! Where the settings in force come from.

use std::{collections::BTreeMap, env, fmt, path::PathBuf};

use anyhow::ensure;

use super::{explain::suggestion, places::ConfigFile};

/// Where a setting comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Nobody said anything.
    Default,
    /// A line of the settings file.
    File(PathBuf, usize),
    /// A variable of that name.
    Variable(String),
    /// A flag of that name.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// The settings of which somebody said something, and where.
pub(crate) type Origins = BTreeMap<String, Origin>;

/// Tells where each setting of `file`, and each of those `given` as flags or variables, comes from.
pub(super) fn origins(
    file: Option<&ConfigFile>,
    given: impl IntoIterator<Item = String>,
) -> Origins {
    let mut origins = Origins::new();
    if let Some(ConfigFile { path, lines, .. }) = file {
        let lines = lines.iter();
        origins.extend(lines.map(|(key, line)| (key.clone(), Origin::File(path.clone(), *line))));
    }
    origins.extend(given.into_iter().map(|key| (key.clone(), given_as(&key))));
    origins
}

/// Whether a setting of this process was given as a flag or as a variable.
fn given_as(key: &str) -> Origin {
    let flag = format!("--{key}");
    let is_flag = |argument: &str| {
        argument.strip_prefix(&flag).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    };
    let variable = variable(key);
    let is_variable = env::var_os(&variable).is_some();
    if is_variable && !env::args().any(|argument| is_flag(&argument)) {
        Origin::Variable(variable)
    } else {
        Origin::Flag(flag)
    }
}

/// The variable of a setting.
fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('-', "_").to_uppercase())
}

/// What the names of all variables begin with.
const PREFIX: &str = "TACIT_";

/// Checks that every variable that is meant for Tacit is a setting's, or another that it knows.
///
/// # Errors
/// One line about the first that is not.
pub(super) fn check_variables(
    variables: impl IntoIterator<Item = (String, String)>,
    known: &[&str],
) -> anyhow::Result<()> {
    for (name, value) in variables {
        let Some(key) = name.strip_prefix(PREFIX) else { continue };
        let is_known = known.iter().any(|known| variable(known) == name);
        ensure!(
            is_known || OTHERS.contains(&name.as_str()) || is_of_a_service(key, &value),
            "{name}: no setting has such a variable; {}",
            suggestion(key, known)
        );
    }
    Ok(())
}

/// Variables of no setting: which file has the settings, which commit a build is of, and what builds for tests obey.
const OTHERS: &[&str] = &[
    "TACIT_CONFIG",
    "TACIT_COMMIT",
    #[cfg(feature = "misbehave")]
    "TACIT_MISBEHAVE",
    #[cfg(feature = "leaky")]
    "TACIT_LEAK",
    #[cfg(feature = "unsealed")]
    "TACIT_UNSEALED",
];

/// Whether Kubernetes gives a variable of this name to all containers beside a service whose name begins with `tacit`, as
/// it does with `TACIT_SERVICE_HOST` and `TACIT_PORT_51820_UDP_ADDR`.
fn is_of_a_service(name: &str, value: &str) -> bool {
    let is_number = |text: &str| text.starts_with(|letter: char| letter.is_ascii_digit());
    (name.ends_with("PORT") && value.contains("://"))
        || name.contains("SERVICE_HOST")
        || name.contains("SERVICE_PORT")
        || name.split("PORT_").skip(1).any(is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_of_no_setting_is_told() {
        let check = |name: &str| {
            let value = if name.ends_with("PORT") { "tcp://10.96.0.7:51820" } else { "10.96.0.7" };
            check_variables([(name.to_owned(), value.to_owned())], &["mtu", "data-dir"])
        };
        let known = ["TACIT_MTU", "TACIT_DATA_DIR", "TACIT_CONFIG", "PATH"];
        let of_services = [
            "TACIT_SERVICE_HOST",
            "TACIT_DB_SERVICE_PORT_METRICS",
            "TACIT_PORT",
            "TACIT_PORT_51820_UDP_ADDR",
        ];
        for name in known.into_iter().chain(of_services) {
            assert!(check(name).is_ok(), "{name}");
        }
        let port = ("TACIT_LISTEN_PORT".to_owned(), "443".to_owned());
        assert!(check_variables([port], &["listen"]).is_err());
        let refusal = check("TACIT_DATADIR").unwrap_err().to_string();
        let expected = "TACIT_DATADIR: no setting has such a variable; did you mean `data-dir`?";
        assert_eq!(refusal, expected);
    }
}
