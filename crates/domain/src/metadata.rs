//! The `<metadata>` element that says whose domain it is. A domain without it, or with another instance's id, is not ours.

use uuid::Uuid;

/// XML namespace of our metadata element.
pub const METADATA_URI: &str = "https://ferrovirt.io/domain/1";
/// Local name of the element.
pub const METADATA_ELEMENT: &str = "vmi";
/// Prefix we write it with.
pub const METADATA_PREFIX: &str = "ferrovirt";

/// Whose domain it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainMetadata {
    pub vmi_uid: Uuid,
    pub namespace: String,
    pub name: String,
    /// The launcher pod at the time the domain was started.
    pub pod_uid: String,
    /// The Ferrovirt instance that started it.
    pub instance_id: String,
}

impl DomainMetadata {
    /// Reads our element: either alone (as `virDomainGetMetadata` returns it) or inside a domain document.
    /// `None` when there is none or it is not whole; never guesses.
    pub fn parse(xml: &str) -> Option<Self> {
        let document = roxmltree::Document::parse(xml).ok()?;
        let element = document.descendants().find(|node| {
            node.tag_name().name() == METADATA_ELEMENT
                && matches!(node.tag_name().namespace(), None | Some(METADATA_URI))
        })?;
        let text = |name: &str| {
            element
                .children()
                .find(|child| child.tag_name().name() == name)
                .map(|child| child.text().unwrap_or_default().to_owned())
        };
        Some(Self {
            vmi_uid: text("uid")?.parse().ok()?,
            namespace: text("namespace")?,
            name: text("name")?,
            pod_uid: text("podUID").unwrap_or_default(),
            instance_id: text("instance")?,
        })
    }
}
