//! An export as people read it.

use std::fmt::Write as _;

use zeroize::Zeroizing;

use super::Export;

pub(super) fn render(export: &Export) -> Zeroizing<String> {
    let mut page = Page(Zeroizing::new(format!("{}\n", export.own.about)));
    page.heading("Account");
    page.line(format!("number {}, this export made {}", export.own.account, export.own.made_at));
    page.line(format!(
        "e-mail address: {}",
        export.own.email.as_deref().unwrap_or("none any more")
    ));
    if let Some(email) = &export.own.email_to_be_confirmed {
        page.line(format!("new e-mail address, not confirmed yet: {email}"));
    }
    page.line(format!("confirmed: {}, {}", export.own.confirmation, export.own.confirmed_at));
    page.line(format!("password: {}", export.own.password));
    if let Some(at) = &export.own.cancelled_at {
        page.line(format!("cancelled: {at}"));
    }
    if let Some(kept) = export.own.kept {
        page.heading("How long it is kept");
        kept.lines().into_iter().for_each(|line| page.line(line));
    }
    page.list("Services", &export.own.services, |service| match &service.ends_at {
        Some(ends_at) => format!("{}, until {ends_at}", service.name),
        None => format!("{}, without end", service.name),
    });
    page.list("Devices", &export.own.devices, |device| {
        format!(
            "{}: {} and {}, public key {} since {}, with a preshared key",
            device.name, device.tunnel_v4, device.tunnel_v6, device.public_key, device.key_since
        )
    });
    page.list("Sessions", &export.sessions, |session| {
        format!(
            "{} to {}, from {}, {}",
            session.began_at,
            session.ended_at.as_deref().unwrap_or("now"),
            session.connecting_ip,
            session.device.as_deref().unwrap_or("a device that is removed")
        )
    });
    page.list("Consents to disclosures", &export.own.consents, |consent| {
        let withdrawn = consent.withdrawn_at.as_ref();
        let withdrawn = withdrawn.map_or_else(String::new, |at| format!(", withdrawn {at}"));
        format!("to {}, given {}{withdrawn}", consent.recipient, consent.given_at)
    });
    page.list("Former values", &export.former_values, |former| {
        format!(
            "{}: {}, {} {}, kept until {}",
            former.kind, former.value, former.reason, former.archived_at, former.keep_until
        )
    });
    page.list("Privacy rules", &export.own.rules, |rules| {
        let letter = rules.letter_written_at.as_ref().map(|written| match &rules.letter_sent_at {
            Some(sent) => format!(", letter written {written} and sent {sent}"),
            None => format!(", letter written {written} and not sent"),
        });
        let accepted = rules.accepted_on.as_ref().map(|on| format!(", accepted by use on {on}"));
        format!(
            "version {}{}{}",
            rules.version,
            letter.unwrap_or_default(),
            accepted.unwrap_or_default()
        )
    });
    if let Some(disclosures) = &export.disclosures {
        page.list("Disclosures", disclosures, |disclosure| {
            format!(
                "{}: to {}, {} {}, SHA-256 {}",
                disclosure.made_at,
                disclosure.recipient,
                disclosure.basis,
                disclosure.reference,
                disclosure.sha256
            )
        });
    }
    if let Some(entries) = &export.seen_by_staff {
        page.list("Looked at or changed by the staff", entries, |entry| {
            format!("{}: {} ({})", entry.at, entry.verb, entry.data)
        });
    }
    page.0
}

struct Page(Zeroizing<String>);

impl Page {
    fn heading(&mut self, heading: &str) {
        let _ = writeln!(self.0, "\n{heading}");
    }

    fn line(&mut self, line: String) {
        let _ = writeln!(self.0, "  {}", *Zeroizing::new(line));
    }

    fn list<T>(&mut self, heading: &str, items: &[T], text: impl Fn(&T) -> String) {
        self.heading(heading);
        if items.is_empty() {
            self.line("none".to_owned());
        }
        for item in items {
            self.line(text(item));
        }
    }
}
