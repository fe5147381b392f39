//! Which images an installation runs.

use std::collections::BTreeMap;

use fv_api::KubeVirtSpec;

/// The programs that come as images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Component {
    Operator,
    Api,
    Controller,
    Handler,
    Launcher,
}

impl Component {
    pub const ALL: [Self; 5] = [Self::Operator, Self::Api, Self::Controller, Self::Handler, Self::Launcher];

    /// Name of the program and of its image.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "virt-operator",
            Self::Api => "virt-api",
            Self::Controller => "virt-controller",
            Self::Handler => "virt-handler",
            Self::Launcher => "virt-launcher",
        }
    }

    /// The operator's environment variable that names this image in full, as upstream's.
    pub fn variable(self) -> &'static str {
        match self {
            Self::Operator => "VIRT_OPERATOR_IMAGE",
            Self::Api => "VIRT_API_IMAGE",
            Self::Controller => "VIRT_CONTROLLER_IMAGE",
            Self::Handler => "VIRT_HANDLER_IMAGE",
            Self::Launcher => "VIRT_LAUNCHER_IMAGE",
        }
    }
}

/// Where an operator takes images from when the KubeVirt resource does not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSource {
    /// Registry and folder, as `quay.io/ferrovirt`.
    pub registry: String,
    /// What stands before each image's name; often empty.
    pub prefix: String,
    /// Tag of all images, and the name of this version.
    pub tag: String,
    /// Images given in full (by digest, or from elsewhere).
    pub pinned: BTreeMap<Component, String>,
}

/// The images of one installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    registry: String,
    version: String,
    references: BTreeMap<Component, String>,
}

impl ImageSource {
    /// Reads registry, prefix and tag from the operator's own image, as `registry:5000/mirror/prefix-virt-operator:v1`.
    /// `None` when it is no image of an operator. An image by digest has no tag, so `version` names it.
    pub fn of_operator_image(image: &str, version: &str) -> Option<Self> {
        let (reference, digest) = match image.split_once('@') {
            Some((reference, digest)) => (reference, Some(digest)),
            None => (image, None),
        };
        let (registry, name) = reference.rsplit_once('/')?;
        let (name, tag) = match name.split_once(':') {
            Some((name, tag)) => (name, tag),
            None => (name, if digest.is_some() { version } else { "latest" }),
        };
        let prefix = name.strip_suffix(Component::Operator.as_str())?;
        let well_formed = !registry.is_empty() && !tag.is_empty();
        well_formed.then(|| Self {
            registry: registry.to_owned(),
            prefix: prefix.to_owned(),
            tag: tag.to_owned(),
            pinned: digest.map(|_| (Component::Operator, image.to_owned())).into_iter().collect(),
        })
    }

    /// The images that a KubeVirt resource asks for. A registry or tag of its own leaves nothing pinned.
    pub fn resolve(&self, spec: &KubeVirtSpec) -> Images {
        let own = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let (own_registry, own_tag) = (own(&spec.image_registry), own(&spec.image_tag));
        let is_pinned = own_registry.is_none() && own_tag.is_none();
        let registry = own_registry.unwrap_or_else(|| self.registry.clone());
        let version = own_tag.unwrap_or_else(|| self.tag.clone());
        let references = Component::ALL
            .into_iter()
            .map(|component| {
                let pinned = self.pinned.get(&component).filter(|_| is_pinned).cloned();
                let image =
                    pinned.unwrap_or_else(|| format!("{registry}/{}{}:{version}", self.prefix, component.as_str()));
                (component, image)
            })
            .collect();
        Images { registry, version, references }
    }
}

impl Images {
    /// The image of a component.
    pub fn of(&self, component: Component) -> &str {
        self.references.get(&component).map_or("", String::as_str)
    }

    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The tag, which names the version.
    pub fn version(&self) -> &str {
        &self.version
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(image: &str) -> Option<ImageSource> {
        ImageSource::of_operator_image(image, "v9")
    }

    #[test]
    fn registry_prefix_and_tag_are_those_of_the_operators_image() {
        for (image, registry, prefix, tag) in [
            ("quay.io/ferrovirt/virt-operator:v1", "quay.io/ferrovirt", "", "v1"),
            ("localhost:5000/a/b/my-virt-operator:x", "localhost:5000/a/b", "my-", "x"),
            ("localhost:5000/virt-operator", "localhost:5000", "", "latest"),
            ("quay.io/f/virt-operator@sha256:00", "quay.io/f", "", "v9"),
            ("quay.io/f/virt-operator:v1@sha256:00", "quay.io/f", "", "v1"),
        ] {
            let source = source(image).unwrap();
            assert_eq!(
                (source.registry.as_str(), source.prefix.as_str(), source.tag.as_str()),
                (registry, prefix, tag)
            );
        }
        for image in ["", "virt-operator:v1", "quay.io/f/other:v1", "/virt-operator:v1"] {
            assert_eq!(source(image), None, "{image}");
        }
    }

    #[test]
    fn a_resource_that_names_registry_or_tag_gets_no_pinned_image() {
        let mut source = source("quay.io/f/x-virt-operator:v1").unwrap();
        source.pinned.insert(Component::Api, "quay.io/f/virt-api@sha256:11".into());
        let images = source.resolve(&KubeVirtSpec::default());
        assert_eq!(images.of(Component::Api), "quay.io/f/virt-api@sha256:11");
        assert_eq!(images.of(Component::Handler), "quay.io/f/x-virt-handler:v1");
        let images = source.resolve(&KubeVirtSpec { image_tag: Some("v2".into()), ..KubeVirtSpec::default() });
        assert_eq!(images.of(Component::Api), "quay.io/f/x-virt-api:v2");
        assert_eq!((images.registry(), images.version()), ("quay.io/f", "v2"));
    }
}
