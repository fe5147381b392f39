//! `ferrovirt backup` and `ferrovirt restore`.

use anyhow::Context;
use fv_standalone::backup;
use fv_standalone::instance::Instance;

use crate::cli::{Backup, Restore};
use crate::output::say;

pub(crate) fn backup(options: &Backup) -> anyhow::Result<()> {
    let at = &options.at.data_dir;
    let instance = Instance::find(at)
        .with_context(|| format!("nothing at {}: no instance was ever started there", at.display()))?;
    let made = backup::backup(&instance, &options.file)?;
    say(&format!("{} objects at revision {} are in {}.", made.objects, made.revision, options.file.display()));
    Ok(())
}

pub(crate) fn restore(options: &Restore) -> anyhow::Result<()> {
    let at = &options.at.data_dir;
    let instance = Instance::open(at).with_context(|| format!("use the data directory {}", at.display()))?;
    let restored = backup::restore(&instance, &options.file, options.replace)?;
    let from = restored
        .description
        .map_or_else(String::new, |d| format!(", written {} by Ferrovirt {}", d.created, d.ferrovirt));
    say(&format!("{} objects were restored{from}.", restored.objects));
    for path in &restored.replaced {
        say(&format!("What was there before is kept in {}.", path.display()));
    }
    say("`ferrovirt up` starts it. Guests that run and are not in the backup go on; they are reported and left alone.");
    Ok(())
}
