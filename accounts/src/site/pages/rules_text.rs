//! The text of the rules as headings, lists and paragraphs. Nothing in it is taken for a command of a page.

/// A part of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Block {
    /// A line that begins with `#`: how many, and its words.
    Heading(usize, String),
    /// Lines that begin with `-`.
    List(Vec<String>),
    /// Other lines, up to an empty one.
    Paragraph(String),
}

/// Takes a text apart.
pub(super) fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut is_new = true;
    for line in text.lines() {
        let words = line.trim();
        if words.is_empty() {
            is_new = true;
            continue;
        }
        let level = words.len() - words.trim_start_matches('#').len();
        let heading = words[level..].strip_prefix(' ').filter(|_| level > 0);
        match (heading, words.strip_prefix("- "), blocks.last_mut()) {
            (Some(heading), ..) => {
                blocks.push(Block::Heading(level.min(3), heading.trim().to_owned()));
            }
            (None, Some(item), Some(Block::List(items))) if !is_new => items.push(item.to_owned()),
            (None, Some(item), _) => blocks.push(Block::List(vec![item.to_owned()])),
            (None, None, Some(Block::Paragraph(paragraph))) if !is_new => {
                paragraph.push(' ');
                paragraph.push_str(words);
            }
            (None, None, Some(Block::List(items))) if !is_new => {
                if let Some(item) = items.last_mut() {
                    item.push(' ');
                    item.push_str(words);
                }
            }
            (None, None, _) => blocks.push(Block::Paragraph(words.to_owned())),
        }
        is_new = heading.is_some();
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_headings_lists_and_paragraphs() {
        let text =
            "# Rules\n\nWe keep\nlittle.\n\n## 1. What\n- a,\n  and b\n- c\nafter\n\n#hash\n";
        let paragraph = |text: &str| Block::Paragraph(text.to_owned());
        assert_eq!(
            blocks(text),
            [
                Block::Heading(1, "Rules".into()),
                paragraph("We keep little."),
                Block::Heading(2, "1. What".into()),
                Block::List(vec!["a, and b".into(), "c after".into()]),
                paragraph("#hash"),
            ]
        );
    }

    #[test]
    fn no_word_of_the_default_rules_is_lost() {
        let text = crate::rules::DEFAULT_RULES;
        let words = |text: &str| -> Vec<String> {
            let words = text.split_whitespace().map(|word| word.trim_matches(['#', '-']));
            words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
        };
        let shown: Vec<String> = blocks(text)
            .into_iter()
            .flat_map(|block| match block {
                Block::Heading(_, text) | Block::Paragraph(text) => words(&text),
                Block::List(items) => items.iter().flat_map(|item| words(item)).collect(),
            })
            .collect();
        assert_eq!(shown, words(text));
    }
}
