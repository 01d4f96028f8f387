//! The customer site: where people register, connect a device, and see all that is held about them.
//!
//! A request comes in through `server`, which bounds who may be connected and for how long, and `gate`, which says what
//! every request must be like and what every answer carries, to one of the `pages`. Who is logged in is kept in memory
//! alone (`visits`). There is no access log: requests that fail are counted, and nothing else about them is kept.

mod answer;
mod assets;
mod certificate;
mod choice;
mod downloads;
mod errors;
mod fields;
mod gate;
mod headers;
mod origin;
mod pages;
mod places;
mod redirect;
mod server;
mod surroundings;
mod visitor;
mod visits;
mod words;

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tacit_messages::clock::Instant;
use tokio::{runtime::Handle, time::sleep};

pub use self::{
    certificate::{CertificateError, Certificates, Source, certificate_names},
    errors::Errors,
    redirect::redirect,
    server::serve,
    surroundings::{Audited, Doing, Surroundings},
};
use self::{downloads::Downloads, places::Places, visits::Visits, words::Words};
use crate::{Door, Kept, Store, post::Contact};

/// Between two looks at what is to be forgotten.
const FORGETTING_INTERVAL: Duration = Duration::from_secs(60);

/// What the pages say of the operator's settings.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Where customers may ask.
    pub contact: Option<Contact>,
    /// Whether letters can be sent; without them nobody can register.
    pub sends_letters: bool,
    /// Days that a session is kept after its end.
    pub keep_sessions: u32,
    /// Days that a former value is kept.
    pub keep_archive: u32,
    /// Days that entries of the staff log and the disclosure register are kept.
    pub keep_records: u32,
}

impl Facts {
    /// How long each thing is kept that is held about a customer.
    const fn kept(&self) -> Kept {
        Kept::new(self.keep_sessions, self.keep_archive, self.keep_records)
    }
}

/// The site.
#[derive(Debug)]
pub struct Site {
    store: Store,
    door: Arc<Door>,
    surroundings: Arc<dyn Surroundings>,
    facts: Facts,
    words: &'static Words,
    visits: Visits,
    places: Arc<Places>,
    downloads: Arc<Downloads>,
    errors: Arc<Errors>,
    /// Where the store and the visits are used. Connections may be served elsewhere, at a lower priority: who can be kept
    /// waiting there must not hold what control waits for.
    control: Handle,
}

impl Site {
    /// The site of a gateway. Call within the tokio runtime in which the store is used.
    #[must_use]
    pub fn new(
        store: Store,
        door: Arc<Door>,
        surroundings: Arc<dyn Surroundings>,
        facts: Facts,
        errors: Arc<Errors>,
    ) -> Arc<Self> {
        let tunnel = store.tunnel_pool;
        let site = Arc::new(Self {
            store,
            door,
            surroundings,
            facts,
            words: Words::first(),
            visits: Visits::default(),
            places: Arc::new(Places::new(tunnel)),
            downloads: Arc::default(),
            errors,
            control: Handle::current(),
        });
        tokio::spawn(forget_visits(Arc::downgrade(&site)));
        site
    }
}

/// Forgets visits that are over, until the site is gone.
async fn forget_visits(site: Weak<Site>) {
    loop {
        sleep(FORGETTING_INTERVAL).await;
        let Some(site) = site.upgrade() else { return };
        site.visits.forget_old(Instant::now());
    }
}
