//! Booleans as upstream's flag library reads them: `--force`, `--force=true`, `--force=false`.

use clap::{ArgAction, Command};

/// Lets every switch of a command and of its subcommands take a value. In one place, since a switch that was forgotten would
/// refuse what scripts written for upstream say.
pub(super) fn take_values(command: Command) -> Command {
    let command = command.mut_args(|arg| match arg.get_action() {
        // The value needs its `=`: in `--force false` the word is an argument of its own.
        ArgAction::SetTrue => arg
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .default_value("false")
            .hide_default_value(true)
            .value_name("BOOL")
            .value_parser(boolean),
        _ => arg,
    });
    command.mut_subcommands(take_values)
}

/// The words that Go takes for a boolean.
fn boolean(word: &str) -> Result<bool, String> {
    match word {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err("use true or false".into()),
    }
}
