//! JSON bodies with a gap where the writer puts the revision.

use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

/// An object ready to be stored: everything but `metadata.resourceVersion`, which only the writer knows.
#[derive(Debug)]
pub struct Encoded {
    bytes: Vec<u8>,
    gap: usize,
    pub(super) labels: Labels,
}

/// Shared between what is written and what was written.
pub(super) type Labels = Arc<[(Box<str>, Box<str>)]>;

impl Encoded {
    /// Serialises an object. `metadata.resourceVersion` of the value is ignored.
    pub fn new(value: &Value) -> Encoded {
        let mut bytes = Vec::with_capacity(1024);
        let mut gap = None;
        bytes.push(b'{');
        if let Some(object) = value.as_object() {
            for (key, field) in object {
                separate(&mut bytes);
                if key == "metadata" {
                    gap = Some(metadata(&mut bytes, field));
                } else {
                    member(&mut bytes, key, field);
                }
            }
        }
        let gap = gap.unwrap_or_else(|| {
            separate(&mut bytes);
            metadata(&mut bytes, &Value::Null)
        });
        bytes.push(b'}');
        Encoded { bytes, gap, labels: labels(value) }
    }

    /// The size in bytes, without the revision.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The final bytes at a revision.
    pub(super) fn at(&self, revision: u64) -> Bytes {
        let mut out = Vec::with_capacity(self.bytes.len() + 20);
        out.extend_from_slice(&self.bytes[..self.gap]);
        let _ = write!(out, "{revision}");
        out.extend_from_slice(&self.bytes[self.gap..]);
        out.into()
    }
}

fn separate(bytes: &mut Vec<u8>) {
    if bytes.last() != Some(&b'{') {
        bytes.push(b',');
    }
}

/// Writing a `Value` into a vector cannot fail: its keys are strings and the sink is memory.
fn member(bytes: &mut Vec<u8>, key: &str, field: &Value) {
    let _ = serde_json::to_writer(&mut *bytes, key);
    bytes.push(b':');
    let _ = serde_json::to_writer(&mut *bytes, field);
}

fn metadata(bytes: &mut Vec<u8>, metadata: &Value) -> usize {
    bytes.extend_from_slice(br#""metadata":{"resourceVersion":""#);
    let gap = bytes.len();
    bytes.push(b'"');
    for (key, field) in metadata.as_object().into_iter().flatten().filter(|(k, _)| *k != "resourceVersion") {
        bytes.push(b',');
        member(bytes, key, field);
    }
    bytes.push(b'}');
    gap
}

fn labels(value: &Value) -> Labels {
    let labels = value.pointer("/metadata/labels").and_then(Value::as_object);
    labels
        .into_iter()
        .flatten()
        .filter_map(|(k, v)| Some((k.as_str().into(), v.as_str()?.into())))
        .collect::<Vec<_>>()
        .into()
}

/// The labels of a stored body.
pub(super) fn labels_of(body: &[u8]) -> Result<Labels, serde_json::Error> {
    #[derive(Deserialize)]
    struct Body {
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    struct Metadata {
        #[serde(default)]
        labels: Option<indexmap::IndexMap<Box<str>, Box<str>>>,
    }
    let body: Body = serde_json::from_slice(body)?;
    Ok(body.metadata.labels.unwrap_or_default().into_iter().collect::<Vec<_>>().into())
}
