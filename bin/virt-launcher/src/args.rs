//! The command line, by hand: a few commands do not pay for a parser.

use std::path::PathBuf;
use std::time::Duration;

pub(crate) const USAGE: &str = "\
usage: virt-launcher run --share-dir DIR --name NAME --namespace NAMESPACE --uid UID --grace-period-seconds SECONDS
       virt-launcher console-log --file FILE
       virt-launcher probe --file FILE
       virt-launcher install --to DIR
       virt-launcher container-disk
       virt-launcher --help | --version
";

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Run(RunArgs),
    ConsoleLog(ConsoleLogArgs),
    Probe(ProbeArgs),
    Install(InstallArgs),
    ContainerDisk,
    Help,
    Version,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RunArgs {
    pub(crate) share_dir: PathBuf,
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) uid: String,
    pub(crate) grace_period: Duration,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ConsoleLogArgs {
    pub(crate) file: PathBuf,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ProbeArgs {
    pub(crate) file: PathBuf,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct InstallArgs {
    pub(crate) directory: PathBuf,
}

pub(crate) fn parse(args: impl Iterator<Item = String>) -> Result<Command, String> {
    let mut args = args;
    match args.next().as_deref() {
        Some("run") => {
            let [share_dir, name, namespace, uid, grace] =
                values(args, ["--share-dir", "--name", "--namespace", "--uid", "--grace-period-seconds"])?;
            let seconds: u64 = grace
                .parse()
                .map_err(|_| format!("--grace-period-seconds {grace:?} is not a number of seconds, 0 or more"))?;
            Ok(Command::Run(RunArgs {
                share_dir: share_dir.into(),
                name,
                namespace,
                uid,
                grace_period: Duration::from_secs(seconds),
            }))
        }
        Some("console-log") => {
            let [file] = values(args, ["--file"])?;
            Ok(Command::ConsoleLog(ConsoleLogArgs { file: file.into() }))
        }
        Some("probe") => {
            let [file] = values(args, ["--file"])?;
            Ok(Command::Probe(ProbeArgs { file: file.into() }))
        }
        Some("install") => {
            let [directory] = values(args, ["--to"])?;
            Ok(Command::Install(InstallArgs { directory: directory.into() }))
        }
        Some("container-disk") => values(args, []).map(|[]| Command::ContainerDisk),
        Some("--help" | "-h") => Ok(Command::Help),
        Some("--version" | "-V") => Ok(Command::Version),
        Some(other) => Err(format!("unknown command {other:?}")),
        None => Err("no command given".to_owned()),
    }
}

/// Reads `--flag value` and `--flag=value` in any order; each flag exactly once.
fn values<const N: usize>(args: impl Iterator<Item = String>, flags: [&str; N]) -> Result<[String; N], String> {
    let mut found: [Option<String>; N] = [const { None }; N];
    let mut args = args;
    while let Some(arg) = args.next() {
        let (flag, value) = match arg.split_once('=') {
            Some((flag, value)) => (flag.to_owned(), Some(value.to_owned())),
            None => (arg, None),
        };
        let slot = flags
            .iter()
            .position(|f| *f == flag)
            .and_then(|i| found.get_mut(i))
            .ok_or_else(|| format!("unknown argument {flag:?}"))?;
        let value = value.or_else(|| args.next()).ok_or_else(|| format!("{flag} needs a value"))?;
        if slot.replace(value).is_some() {
            return Err(format!("{flag} is given twice"));
        }
    }
    let mut missing = None;
    let values = std::array::from_fn(|i| match found.get_mut(i).and_then(Option::take) {
        Some(value) => value,
        None => {
            missing = missing.or(flags.get(i));
            String::new()
        }
    });
    match missing {
        Some(flag) => Err(format!("{flag} is missing")),
        None => Ok(values),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(line: &str) -> Result<Command, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn run_takes_its_flags_in_any_order_and_form() {
        let line = "run --uid=u --name n --grace-period-seconds 30 --namespace ns --share-dir /s";
        let Ok(Command::Run(args)) = parse_words(line) else { panic!("refused") };
        assert_eq!((args.uid.as_str(), args.grace_period), ("u", Duration::from_secs(30)));
    }

    #[test]
    fn bad_lines_name_the_flag() {
        for (line, text) in [
            ("", "no command"),
            ("start", "\"start\""),
            ("console-log", "--file is missing"),
            ("console-log --file", "--file needs a value"),
            ("console-log --file a --file b", "twice"),
            ("console-log --follow x", "\"--follow\""),
            ("probe", "--file is missing"),
            ("install", "--to is missing"),
            ("container-disk now", "\"now\""),
            ("run --share-dir /s --name n --namespace s --uid u --grace-period-seconds -1", "\"-1\""),
        ] {
            let error = parse_words(line).unwrap_err();
            assert!(error.contains(text), "{line}: {error}");
        }
    }
}
