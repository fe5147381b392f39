//! Which representation a client wants: the `Accept` header.

/// A representation of an object or list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Representation {
    /// The object itself.
    Full,
    /// A `meta.k8s.io/v1 Table`.
    Table,
    /// `PartialObjectMetadata` or its list.
    Metadata,
}

/// What this server offers, for the message of a 406.
pub const OFFERED: &[&str] = &[
    "application/json",
    "application/json;stream=watch",
    "application/json;as=Table;g=meta.k8s.io;v=v1",
    "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
];

/// The first representation in the header that can be served; `None` when there is none (406).
pub fn negotiate(accept: Option<&str>) -> Option<Representation> {
    let Some(accept) = accept.map(str::trim).filter(|a| !a.is_empty()) else { return Some(Representation::Full) };
    accept.split(',').find_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default().to_ascii_lowercase();
        if !["application/json", "application/*", "*/*"].contains(&media.as_str()) {
            return None;
        }
        let (mut target, mut version, mut group) = ("", "", "");
        for part in parts {
            match part.split_once('=').map(|(k, v)| (k.trim(), v.trim().trim_matches('"'))) {
                Some(("as", value)) => target = value,
                Some(("v", value)) => version = value,
                Some(("g", value)) => group = value,
                _ => {}
            }
        }
        match (target, group, version) {
            ("", ..) => Some(Representation::Full),
            ("Table", "meta.k8s.io", "v1") => Some(Representation::Table),
            ("PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io", "v1") => {
                Some(Representation::Metadata)
            }
            _ => None,
        }
    })
}
