//! The table of settings as people read it: the commented example, and the reference.

use super::error::{ConfigError, ConfigErrors, Origin};
use super::setting::{Kind, Setting, Value};
use super::table::{OTHER_VARIABLES, SETTINGS};

/// The longest line of the example.
const COLUMNS: usize = 100;

const HEAD: &str = "\
# Fieldseal. Relative paths begin where this file is. Everything but `format` may be left out: a
# setting that is not stated has its default. docs/configuration.md is about all of them.
format = 1
";

/// A commented configuration file with the defaults, and with other values for some settings.
pub(super) fn example(changes: &[(&str, &str)]) -> Result<String, ConfigErrors> {
    let wrong = |name: &str, message: String| {
        let (origin, setting) = (Origin::Default, name.to_owned());
        ConfigErrors::new(vec![ConfigError { origin, setting, message }])
    };
    if let Some((name, _)) =
        changes.iter().find(|(name, _)| SETTINGS.iter().all(|s| s.name != *name))
    {
        return Err(wrong(name, "there is no such setting".to_owned()));
    }
    let mut text = HEAD.to_owned();
    let mut section = "";
    for setting in SETTINGS {
        if setting.section() != section {
            section = setting.section();
            text.push_str(&format!("\n[{section}]\n"));
        }
        let value = match changes.iter().rev().find(|(name, _)| *name == setting.name) {
            None => setting.default_value(),
            Some((name, stated)) => setting
                .in_text(stated)
                .ok_or_else(|| wrong(name, format!("expected {}", setting.limits())))?,
        };
        text.push_str(&entry(setting, &value));
    }
    Ok(text)
}

fn entry(setting: &Setting, value: &Value) -> String {
    let takes = match setting.kind {
        Kind::Number { least, most, unit, .. } => format!(" {least} to {most} {unit}."),
        Kind::Choice { .. } => format!(" {}.", setting.limits()),
        Kind::OptionalAddress { .. } | Kind::OptionalPath { .. } => " \"\" for none.".to_owned(),
        Kind::Text { takes, .. } => format!(" Takes {takes}."),
        Kind::Command { .. } => " [] for none.".to_owned(),
        _ => String::new(),
    };
    let comment = wrapped(&format!("{}{takes}", setting.meaning));
    format!("{comment}{} = {}\n", setting.key(), value.to_toml())
}

/// Comment lines.
fn wrapped(text: &str) -> String {
    let mut lines = String::new();
    let mut line = "#".to_owned();
    for word in text.split(' ') {
        if line.chars().count() + 1 + word.chars().count() > COLUMNS {
            lines.push_str(&line);
            lines.push('\n');
            line = "#".to_owned();
        }
        line.push(' ');
        line.push_str(word);
    }
    lines + &line + "\n"
}

const ABOUT: &str = "\
# Configuration

<!-- Made from the table in src/server/src/config/table.rs: `fieldseal config reference`. -->

`fieldseal serve --config FILE` reads one TOML file. It begins with `format = 1`; a file of a newer format
is refused. Everything else may be left out: a setting that is not stated has its default.
`fieldseal config example` prints a commented file with all of them.

Every setting can also come from the environment, and **the environment wins over the file**. In a
variable, texts stand without quotation marks. Relative paths begin where the configuration file is,
those of the environment too.

All mistakes are reported at once, each with its line or its variable and with what is expected. An
unknown setting is a mistake, and so is an unknown variable that begins with `FIELDSEAL_`. (The variables
that Kubernetes makes for a Service whose name begins with `fieldseal` are passed over.)

- `fieldseal config check --config FILE` reports the mistakes, and changes nothing;
- `fieldseal config show --config FILE --origin` shows the values that hold, and where each was stated.

`dev` makes its own settings and reads the variables of `FIELDSEAL_DEV_…` only: those of settings are passed
over, and it says so. `FIELDSEAL_DEV=1` runs it where a container is started without arguments.
Its certificates are in a new directory below `TMPDIR`, which is gone when it ends. For a client in another
container, have both mount one volume at one path, set `TMPDIR` and `FIELDSEAL_DEV_ENV_FILE` to places in it,
and run both as the same user.

No setting holds a secret: settings say where a secret is, and a secret is never an argument. One variable
may hold one, that of the root provider `env`; it is taken out of the environment before anything else starts.
";

/// `docs/configuration.md`.
pub(super) fn markdown() -> String {
    let mut text = ABOUT.to_owned();
    let mut section = "";
    for setting in SETTINGS {
        if setting.section() != section {
            section = setting.section();
            text.push_str(&format!(
                "\n## `[{section}]`\n\n\
                 | Setting | Variable | Default | Unit | Takes | What it does |\n\
                 |---|---|---|---|---|---|\n"
            ));
        }
        text.push_str(&row([
            &format!("`{}`", setting.key()),
            &format!("`{}`", setting.variable()),
            &format!("`{}`", setting.default_value().to_toml()),
            setting.unit(),
            &setting.limits(),
            setting.meaning,
        ]));
    }
    text.push_str(
        "\n## Other variables\n\n\
         | Variable | Read by | What it says |\n\
         |---|---|---|\n",
    );
    for other in OTHER_VARIABLES {
        text.push_str(&row([&format!("`{}`", other.name), other.read_by, other.meaning]));
    }
    text
}

fn row<const CELLS: usize>(cells: [&str; CELLS]) -> String {
    let cells = cells.map(|cell| cell.replace('|', "\\|").replace('<', "&lt;"));
    format!("| {} |\n", cells.join(" | "))
}
