//! The inventory: every column of the store, why it may be kept, whether it is sealed, and how long it stays.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The file that the inventory is read from, as it was when the program was built.
const TEXT: &str = include_str!("../inventory.toml");

/// What the inventory says of a column.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// What it holds.
    pub what: String,
    /// The clause of the privacy rules that allows it; `None` for a column that is about nobody.
    #[serde(deserialize_with = "read_clause")]
    pub clause: Option<u8>,
    /// Whether it is sealed with the data key.
    pub sealed: bool,
    /// How long a value stays.
    pub kept: String,
    /// The setting that `kept` follows.
    pub setting: Option<String>,
    /// The setting's default, in days.
    pub days: Option<u32>,
}

/// Columns by table and name.
pub type Inventory = BTreeMap<String, BTreeMap<String, Column>>;

/// The inventory of this program's store.
///
/// # Panics
/// Never: a test reads the file.
#[must_use]
pub fn inventory() -> Inventory {
    toml::from_str(TEXT).expect("inventory.toml was read by a test")
}

fn read_clause<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let clause = text.parse().ok().filter(|clause| (1..=12).contains(clause));
    match clause {
        None if text != "none" => Err(serde::de::Error::custom("a clause is 1 to 12 or none")),
        clause => Ok(clause),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_is_explained() {
        for (table, columns) in inventory() {
            for (name, column) in columns {
                assert!(!column.what.is_empty() && !column.kept.is_empty(), "{table}.{name}");
                assert_eq!(column.setting.is_some(), column.days.is_some(), "{table}.{name}");
            }
        }
    }

    #[test]
    fn clause_is_a_number_of_the_rules_or_none() {
        let column = |clause| {
            toml::from_str::<Column>(&format!(
                "what = 'x'\nclause = '{clause}'\nsealed = false\nkept = 'always'"
            ))
        };
        assert_eq!(column("12").unwrap().clause, Some(12));
        assert_eq!(column("none").unwrap().clause, None);
        for wrong in ["0", "13", "", "None", "3a"] {
            assert!(column(wrong).is_err(), "{wrong:?}");
        }
    }
}
