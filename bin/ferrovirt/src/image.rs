//! `ferrovirt image …`: the store works on files, so it needs no running instance.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use fv_disk::{ImageStore, Progress, RegistryConfig};
use fv_standalone::instance::Instance;
use fv_standalone::up::open_images;
use indicatif::{BinaryBytes, HumanDuration, ProgressBar, ProgressStyle};

use crate::cli::{Image, ImageCommand};
use crate::output::say;

pub(crate) fn run(options: Image) -> anyhow::Result<()> {
    let instance = Instance::open(&options.at.data_dir)
        .with_context(|| format!("use the data directory {}", options.at.data_dir.display()))?;
    let store = open_images(&instance, RegistryConfig::default())?;
    match options.command {
        ImageCommand::Import { name, file } => {
            let bar = bar();
            let shown = bar.clone();
            let progress = Arc::new(move |progress: Progress| {
                if let Some(total) = progress.total {
                    shown.set_length(total);
                }
                shown.set_position(progress.done);
            });
            let image =
                store.import(&name, &file, &(progress as _)).with_context(|| format!("import {}", file.display()))?;
            bar.finish_and_clear();
            say(&format!("{name}\t{}\t{}", image.digest, BinaryBytes(image.virtual_size)));
        }
        ImageCommand::Ls => list(&store)?,
        ImageCommand::Rm { name } => {
            store.remove(&name)?;
            say(&format!("{name} removed"));
        }
    }
    Ok(())
}

fn bar() -> ProgressBar {
    let style =
        ProgressStyle::with_template("{bar:40} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn list(store: &ImageStore) -> anyhow::Result<()> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut rows = vec![["NAME", "DIGEST", "FORMAT", "SIZE", "DISK", "CREATED", "IN USE BY"].map(String::from)];
    for image in store.list()? {
        let digest: String = image.digest.to_string().chars().take("sha256:".len() + 12).collect();
        let age = HumanDuration(Duration::from_secs(now.saturating_sub(image.created)));
        rows.push([
            if image.names.is_empty() { "<none>".into() } else { image.names.join(",") },
            digest,
            image.format.name().into(),
            BinaryBytes(image.virtual_size).to_string(),
            BinaryBytes(image.disk_usage).to_string(),
            format!("{age} ago"),
            image.in_use_by.len().to_string(),
        ]);
    }
    let widths: Vec<usize> = (0..7).map(|i| rows.iter().map(|r| r[i].chars().count()).max().unwrap_or(0)).collect();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        say(cells.join("   ").trim_end());
    }
    Ok(())
}
