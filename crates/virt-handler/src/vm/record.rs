//! The node's own record of one VM: written before the first effect, removed after the last.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Version of the record's format; a newer one is refused, never guessed at.
pub const RECORD_VERSION: u32 = 1;

/// How far a start has come. The line that matters is between `Starting` and `Resuming`: before it no instruction of the guest has run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// Disks and network are being made.
    Preparing,
    /// The domain may exist, paused before its first instruction.
    Starting,
    /// The guest may have run.
    Resuming,
    /// The guest has been seen running (or paused, when it was to start so).
    Running,
}

/// How a guest ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// Whether the VMI counts as Succeeded, else Failed.
    pub succeeded: bool,
    /// A stable word: `GuestShutdown`, `GuestPanicked`, …
    pub reason: String,
    /// For the user.
    pub message: String,
}

/// A stop under way. Once recorded it is carried through, even if the VMI object is no longer there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stop {
    /// When the handler learnt of it: the grace period runs from here.
    pub since: Timestamp,
    pub grace_seconds: i64,
    /// What the liveness probe found, when that is why: the guest then counts as failed, however it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unhealthy: Option<String>,
}

/// Facts of a domain that are fixed when it is defined.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Defined {
    pub machine: String,
    /// Set when the guest is emulated in software: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emulation: Option<String>,
    /// Volume and its device in the guest.
    pub volumes: Vec<(String, String)>,
}

/// The node's record of one VM.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    pub version: u32,
    pub uid: String,
    pub namespace: String,
    pub name: String,
    /// The host user QEMU of this VM runs as; no other VM of this node has it.
    pub qemu_uid: u32,
    pub stage: Stage,
    /// The launcher pod whose network the guest uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_uid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<Stop>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// What the domain was defined with; the status repeats it after a restart of the handler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defined: Option<Defined>,
}

/// Why a record could not be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("parse the record")]
    Parse(#[source] serde_json::Error),
    #[error(
        "record has version {found}, this program knows versions up to {RECORD_VERSION}: start the newer program again"
    )]
    Newer { found: u32 },
    #[error("record is of VMI {found}, its directory belongs to {expected}")]
    Uid { found: String, expected: String },
}

impl Record {
    /// A record of a VM nothing has been done for yet.
    pub fn new(uid: &str, namespace: &str, name: &str, qemu_uid: u32) -> Self {
        Self {
            version: RECORD_VERSION,
            uid: uid.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            qemu_uid,
            stage: Stage::Preparing,
            pod_uid: None,
            stop: None,
            outcome: None,
            defined: None,
        }
    }

    /// Reads the record found in the directory of VMI `uid`.
    pub fn parse(uid: &str, bytes: &[u8]) -> Result<Self, RecordError> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let Version { version } = serde_json::from_slice(bytes).map_err(RecordError::Parse)?;
        if version > RECORD_VERSION {
            return Err(RecordError::Newer { found: version });
        }
        let record: Self = serde_json::from_slice(bytes).map_err(RecordError::Parse)?;
        if record.uid != uid {
            return Err(RecordError::Uid { found: record.uid, expected: uid.to_owned() });
        }
        Ok(record)
    }

    /// Whether guest code may have run.
    pub fn may_have_run(&self) -> bool {
        self.stage >= Stage::Resuming
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_survives_a_round_trip() {
        let mut record = Record::new("u1", "ns", "vm", 1_000_000_007);
        record.stage = Stage::Resuming;
        record.stop = Some(Stop { since: Timestamp::UNIX_EPOCH, grace_seconds: 30, unhealthy: None });
        let bytes = serde_json::to_vec(&record).unwrap();
        assert_eq!(Record::parse("u1", &bytes).unwrap(), record);
    }

    #[test]
    fn foreign_or_newer_record_is_refused() {
        let record = Record::new("u1", "ns", "vm", 1);
        let bytes = serde_json::to_vec(&record).unwrap();
        assert!(matches!(Record::parse("u2", &bytes), Err(RecordError::Uid { .. })));
        let newer = br#"{"version": 2, "anything": true}"#;
        assert!(matches!(Record::parse("u1", newer), Err(RecordError::Newer { found: 2 })));
        assert!(matches!(Record::parse("u1", b"{"), Err(RecordError::Parse(_))));
    }
}
