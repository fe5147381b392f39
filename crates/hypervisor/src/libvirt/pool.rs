//! Connections for questions that hang while the guest's QEMU does. Each is used by one thread at a time: on a connection that several
//! threads share, a call that hangs holds up the others for seconds (libvirt before 11.0 may lose the word that there is more to send
//! when a thread that waits for an answer has just begun to wait), and libvirtd answers only so many calls of one connection at once.

use std::sync::Arc;

use parking_lot::Mutex;
use virt::connect::Connect;

use super::connection::{KEEPALIVE_COUNT, KEEPALIVE_SECONDS};

/// Connections to one libvirtd.
pub(super) struct Pool {
    uri: String,
    idle: Mutex<Vec<Connect>>,
}

impl Pool {
    pub(super) fn new(uri: &str) -> Arc<Self> {
        Arc::new(Self { uri: uri.to_owned(), idle: Mutex::default() })
    }

    /// Asks `question` on a connection that nobody else uses meanwhile.
    pub(super) fn ask<T, E: From<virt::error::Error>>(
        &self,
        question: impl FnOnce(&Connect) -> Result<T, E>,
    ) -> Result<T, E> {
        let connect = self.take()?;
        let answer = question(&connect);
        if is_alive(&connect) {
            self.idle.lock().push(connect);
        } else {
            close(connect);
        }
        answer
    }

    fn take(&self) -> Result<Connect, virt::error::Error> {
        loop {
            let idle = self.idle.lock().pop();
            match idle {
                Some(connect) if is_alive(&connect) => return Ok(connect),
                Some(dead) => close(dead),
                None => break,
            }
        }
        let connect = Connect::open(Some(&self.uri))?;
        connect.set_keep_alive(KEEPALIVE_SECONDS, KEEPALIVE_COUNT)?;
        Ok(connect)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.idle.get_mut().drain(..).for_each(close);
    }
}

fn is_alive(connect: &Connect) -> bool {
    connect.is_alive().unwrap_or(false)
}

fn close(mut connect: Connect) {
    let _ = connect.close();
}
