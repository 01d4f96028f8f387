//! `tacit inventory`.

use clap::Args;
use serde::Serialize;
use tacit_accounts::{Column, Inventory, inventory};

use super::print::Output;

#[derive(Args)]
#[command(after_help = "Examples:
  tacit inventory
  tacit inventory --json
  tacit inventory --json | jq '.[] | select(.sealed)'")]
pub(super) struct InventoryArguments {
    #[command(flatten)]
    output: Output,
}

/// A field as it is printed.
#[derive(Serialize)]
struct Field {
    table: String,
    column: String,
    what: String,
    clause: Option<u8>,
    sealed: bool,
    kept: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    setting: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    days: Option<u32>,
}

pub(super) fn run(arguments: &InventoryArguments) -> anyhow::Result<()> {
    arguments.output.print(&fields(inventory()), |fields| text(fields))
}

fn fields(inventory: Inventory) -> Vec<Field> {
    let columns = inventory.into_iter().flat_map(|(table, columns)| {
        columns.into_iter().map(move |(name, column)| field(table.clone(), name, column))
    });
    columns.collect()
}

fn field(table: String, name: String, column: Column) -> Field {
    let Column { what, clause, sealed, kept, setting, days } = column;
    Field { table, column: name, what, clause, sealed, kept, setting, days }
}

/// The fields by table, two lines each.
fn text(fields: &[Field]) -> String {
    let width = fields.iter().map(|field| field.column.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (number, field) in fields.iter().enumerate() {
        if number == 0 || fields[number - 1].table != field.table {
            text.push_str(&format!("{}\n", field.table));
        }
        let Field { column, what, .. } = field;
        let (basis, kept) = (basis(field), kept(field));
        text.push_str(&format!("  {column:width$}  {basis:20}  {what}\n"));
        text.push_str(&format!("  {:width$}  {:20}  kept {kept}\n", "", ""));
    }
    let sealed = fields.iter().filter(|field| field.sealed).count();
    text.push_str(&format!(
        "\n{} fields, {sealed} of them sealed with the data key. Clauses are those of the privacy rules.",
        fields.len()
    ));
    text
}

fn basis(field: &Field) -> String {
    let clause =
        field.clause.map_or_else(|| "about nobody".into(), |clause| format!("clause {clause}"));
    if field.sealed { format!("{clause}, sealed") } else { clause }
}

fn kept(field: &Field) -> String {
    match (&field.setting, field.days) {
        (Some(setting), Some(days)) => {
            format!("{}: {days} days, unless `{setting}` says otherwise", field.kept)
        }
        _ => field.kept.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    #[test]
    fn days_of_the_inventory_are_the_defaults_of_the_settings() {
        let defaults = serde_json::to_value(Settings::default()).unwrap();
        let fields = fields(inventory());
        let with_setting: Vec<_> = fields.iter().filter(|field| field.setting.is_some()).collect();
        assert!(!with_setting.is_empty());
        for field in with_setting {
            let setting = field.setting.as_deref().unwrap();
            assert_eq!(defaults[setting], serde_json::json!(field.days), "{setting}");
        }
    }

    #[test]
    fn every_field_is_printed_with_its_basis_and_time() {
        let fields = fields(inventory());
        let text = text(&fields);
        let mut lines = text.lines().peekable();
        for field in &fields {
            if lines.peek() == Some(&field.table.as_str()) {
                lines.next();
            }
            let (first, second) = (lines.next().unwrap(), lines.next().unwrap());
            let name = first.split_whitespace().next();
            assert_eq!(name, Some(field.column.as_str()));
            assert_eq!(first.contains(", sealed  "), field.sealed, "{first}");
            assert!(first.ends_with(&field.what), "{first}");
            assert!(second.contains(&format!("kept {}", field.kept)), "{second}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= 140), "{text}");
    }
}
