//! The real one, with the definitions of the corpus.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::processes::{Processes, Program};
use crate::client::Client;

/// Running etcd and kube-apiserver; both are killed when this is dropped.
#[derive(Debug)]
pub struct Real(Processes);

impl Real {
    /// Starts them from the directory that `tests/cluster/build.sh` fills.
    pub async fn start(programs: &Path) -> Result<Real> {
        let program = Program::Real { programs: programs.to_owned(), durable: false, collector: false };
        let mut processes = Processes::new(program, &std::env::temp_dir()).await?;
        processes.start().context("start the real server (tests/cluster/build.sh kube-apiserver etcd makes it)")?;
        processes.ready().await?;
        super::install(processes.client()).await.context("prepare the real server")?;
        Ok(Real(processes))
    }

    /// Talks to it.
    pub fn client(&self) -> &Client {
        self.0.client()
    }
}
