//! The report as one page that needs nothing else.

use std::fmt::Write;

use super::{Report, Verdict};

const STYLE: &str = "\
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1b1b;background:#fff}\
h1{font-size:1.7rem}h2{font-size:1.2rem;margin-top:2rem}\
table{border-collapse:collapse;width:100%;font-size:.85rem}\
th,td{text-align:left;vertical-align:top;padding:.3rem .6rem;border-bottom:1px solid #ddd;overflow-wrap:anywhere}\
.verdict{padding:1rem 1.2rem;border-radius:.5rem;font-weight:600}\
.good{background:#e3f4e6}.bad{background:#fbe3e3}.void{background:#fdf3d8}\
code{font-size:.85em;overflow-wrap:anywhere}";

/// The page.
pub(super) fn page(report: &Report) -> String {
    let (class, heading) = match report.verdict {
        Verdict::NothingKept => ("good", "No traffic log"),
        Verdict::Kept => ("bad", "Traffic was kept"),
        Verdict::Void => ("void", "The experiment shows nothing"),
    };
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>tacit prove: {heading}</title>\n\
         <style>{STYLE}</style>\n<h1>{heading}</h1>\n<p class=\"verdict {class}\">{}</p>\n",
        Escaped(&report.summary)
    );
    page += "<p>A VPN gateway of its own was started on this machine, told to log as much as it can, and watched. \
             Clients sent traffic through it that carried random marks, which occur nowhere else. Then everything \
             that the gateway had written or held was searched for every mark in every encoding below. The same \
             experiment can be run by anybody who has the program: <code>tacit prove</code>.</p>\n";
    section(&mut page, "What was examined", ["", ""], facts(report));
    if !report.findings.is_empty() {
        let rows = report.findings.iter().map(|found| {
            let place = format!("{}: {}, at byte {}", found.kind, found.place, found.offset);
            [
                found.what.clone(),
                found.mark.clone(),
                found.encoding.clone(),
                place,
                found.moment.clone(),
            ]
        });
        section(&mut page, "What was found", ["What", "Mark", "Written", "Where", "When"], rows);
    }
    let rows = report.sent.iter().map(|sent| {
        let to = sent.to.clone().unwrap_or_default();
        let arrived = if sent.arrived { "yes" } else { "NO" };
        [sent.what.clone(), sent.mark.clone(), to, arrived.into()]
    });
    section(&mut page, "What was sent", ["What", "Mark", "To", "Arrived"], rows);
    let rows = report.searched.iter().map(|place| {
        let bytes = place.bytes.to_string();
        [place.kind.into(), place.place.clone(), bytes, place.moments.join(", ")]
    });
    section(&mut page, "What was searched", ["What", "Where", "Bytes", "When"], rows);
    let rows = report.controls.iter().map(|control| {
        let found = if control.found { "found" } else { "MISSED" };
        [control.what.clone(), found.into()]
    });
    section(&mut page, "What was planted, to try the search", ["What", ""], rows);
    let channels = report.channels.iter();
    let channels =
        channels.map(|channel| [channel.name.to_owned(), format!("{} times", channel.writes)]);
    let files = report.files_written.iter().map(|path| [path.clone(), "file".into()]);
    let settings =
        report.kernel_settings.iter().map(|path| [path.clone(), "kernel setting".into()]);
    let rows = channels.chain(files).chain(settings);
    section(&mut page, "What the gateway wrote to, as strace saw it", ["Where", ""], rows);
    list(
        &mut page,
        "How the marks could have been written",
        report.search.encodings.iter().copied(),
    );
    let unread = report.unread.iter().map(|what| format!("Not searched: {what}."));
    let limits = report.limits.iter().map(|limit| (*limit).to_owned());
    let limits: Vec<String> = limits.chain(unread).collect();
    list(&mut page, "What this does not show", limits.iter().map(String::as_str));
    page
}

fn facts(report: &Report) -> Vec<[String; 2]> {
    let traffic = &report.traffic;
    let packets = format!(
        "{} packets in, {} out; {} of {} marks arrived",
        traffic.inbound_packets,
        traffic.outbound_packets,
        traffic.marks_arrived,
        report.sent.len()
    );
    let searched = format!(
        "{} bytes for {} marks, {} strings of bytes",
        report.search.bytes, report.search.marks, report.search.patterns
    );
    let facts = [
        ("Program", format!("tacit {}", report.program.version)),
        ("Commit", report.program.commit.clone()),
        ("SHA-256 of its file", report.program.sha256.clone()),
        ("Kernel", report.kernel.clone()),
        ("Date", report.began_at.to_string()),
        ("Duration", format!("{:.0} s", report.seconds)),
        ("Traffic", packets),
        ("Sessions recorded", traffic.sessions_recorded.to_string()),
        ("Searched", searched),
        ("System calls watched", report.search.system_calls.to_string()),
    ];
    facts.map(|(name, value)| [name.to_owned(), value]).into()
}

fn section<const COLUMNS: usize>(
    page: &mut String,
    heading: &str,
    heads: [&str; COLUMNS],
    rows: impl IntoIterator<Item = [String; COLUMNS]>,
) {
    let _ = writeln!(page, "<h2>{}</h2>\n<table>", Escaped(heading));
    if heads.iter().any(|head| !head.is_empty()) {
        let heads = heads.map(|head| format!("<th>{}</th>", Escaped(head)));
        let _ = writeln!(page, "<tr>{}</tr>", heads.concat());
    }
    for row in rows {
        let cells = row.map(|cell| format!("<td>{}</td>", Escaped(&cell)));
        let _ = writeln!(page, "<tr>{}</tr>", cells.concat());
    }
    page.push_str("</table>\n");
}

fn list<'a>(page: &mut String, heading: &str, entries: impl IntoIterator<Item = &'a str>) {
    let _ = writeln!(page, "<h2>{}</h2>\n<ul>", Escaped(heading));
    for entry in entries {
        let _ = writeln!(page, "<li>{}</li>", Escaped(entry));
    }
    page.push_str("</ul>\n");
}

/// Text that no browser takes for markup.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for character in self.0.chars() {
            match character {
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '&' => f.write_str("&amp;")?,
                '"' => f.write_str("&quot;")?,
                character => f.write_char(character)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_from_outside_is_text() {
        assert_eq!(Escaped("<b a=\"&\">").to_string(), "&lt;b a=&quot;&amp;&quot;&gt;");
    }
}
