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

/// Checks that every variable that is meant for Tacit is a setting's, the file's own among them.
///
/// # Errors
/// One line about the first that is not.
pub(super) fn check_variables(
    names: impl IntoIterator<Item = String>,
    known: &[&str],
) -> anyhow::Result<()> {
    for name in names {
        let Some(key) = name.strip_prefix(PREFIX) else { continue };
        let is_known = known.iter().any(|known| variable(known) == name);
        ensure!(
            is_known || name == FILE_VARIABLE,
            "{name}: no setting has such a variable; {}",
            suggestion(key, known)
        );
    }
    Ok(())
}

/// Names the settings file.
const FILE_VARIABLE: &str = "TACIT_CONFIG";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_of_no_setting_is_told() {
        let check = |name: &str| check_variables([name.to_owned()], &["mtu", "data-dir"]);
        for name in ["TACIT_MTU", "TACIT_DATA_DIR", "TACIT_CONFIG", "PATH"] {
            assert!(check(name).is_ok(), "{name}");
        }
        let refusal = check("TACIT_DATADIR").unwrap_err().to_string();
        let expected = "TACIT_DATADIR: no setting has such a variable; did you mean `data-dir`?";
        assert_eq!(refusal, expected);
    }
}
