//! Letters as text and as HTML, from a template with places to fill in.

use std::fmt::Write as _;

/// A letter's subject and text. The first line of the template is the subject, the third the first of the text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Filled {
    pub(super) subject: String,
    pub(super) text: String,
}

/// Puts values into the places of a template. What is in a value is never taken for a place.
pub(super) fn fill(template: &str, footer: &str, values: &[(&str, &str)]) -> Filled {
    let (subject, text) = template.split_once("\n\n").unwrap_or((template, ""));
    let text = format!("{}\n\n-- \n{}", text.trim_end(), footer.trim_end());
    Filled { subject: fill_places(subject, values), text: fill_places(&text, values) }
}

fn fill_places(template: &str, values: &[(&str, &str)]) -> String {
    let mut filled = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, from)) = rest.split_once('{') {
        filled.push_str(before);
        let (name, after) = from.split_once('}').unwrap_or((from, ""));
        let value = values.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        debug_assert!(value.is_some(), "the template has a place that nothing fills: {name}");
        filled.push_str(value.unwrap_or_default());
        rest = after;
    }
    filled.push_str(rest);
    filled
}

/// The text as a page: paragraphs, and addresses that can be clicked. It loads nothing.
pub(super) fn html(filled: &Filled) -> String {
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{}</title></head>\n<body>\n",
        escaped(&filled.subject)
    );
    for paragraph in filled.text.split("\n\n") {
        let lines = paragraph.lines().filter(|line| *line != "-- ");
        let lines: Vec<_> = lines.map(with_links).collect();
        let _ = writeln!(page, "<p>{}</p>", lines.join("\n"));
    }
    page.push_str("</body></html>\n");
    page
}

fn with_links(line: &str) -> String {
    let words = line.split(' ').map(|word| match word.starts_with("https://") {
        true => format!("<a href=\"{0}\">{0}</a>", escaped(word)),
        false => escaped(word),
    });
    words.collect::<Vec<_>>().join(" ")
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_filled_once() {
        let filled = fill("On {a}\n\nSee {b}, {a}.\n", "by {b}\n", &[("a", "1"), ("b", "{a}")]);
        assert_eq!(filled.subject, "On 1");
        assert_eq!(filled.text, "See {a}, 1.\n\n-- \nby {a}");
    }

    #[test]
    fn page_takes_nothing_of_a_value_for_a_command() {
        let filled =
            fill("A & B\n\nHi {a}\n\nat https://x.example/?a&b\n", "x", &[("a", "<script>'\"")]);
        let page = html(&filled);
        assert!(page.contains("<p>Hi &lt;script&gt;&#39;&quot;</p>"), "{page}");
        assert!(
            page.contains("<a href=\"https://x.example/?a&amp;b\">https://x.example/?a&amp;b</a>"),
            "{page}"
        );
        assert!(page.contains("<title>A &amp; B</title>"), "{page}");
    }
}
