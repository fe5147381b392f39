//! Fields that an apply would take from others.

use std::fmt;

use crate::managed::{Manager, Operation};
use crate::path::{Element, PathText};

/// A field that another manager owns and an apply would change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The owner.
    pub manager: Manager,
    /// The field.
    pub path: Vec<Element>,
}

impl Conflict {
    /// The path as clients see it.
    pub fn field(&self) -> String {
        PathText(&self.path).to_string()
    }

    /// The text of one cause.
    pub fn cause(&self) -> String {
        format!("conflict with {}", Owner(&self.manager))
    }
}

/// The text of all conflicts together, grouped by owner.
pub(crate) fn message(conflicts: &[Conflict]) -> String {
    if let [one] = conflicts {
        return format!("Apply failed with 1 conflict: {}: {}", one.cause(), one.field());
    }
    let mut lines = Vec::new();
    let mut last: Option<&Manager> = None;
    for conflict in conflicts {
        if last != Some(&conflict.manager) {
            lines.push(format!("conflicts with {}:", Owner(&conflict.manager)));
            last = Some(&conflict.manager);
        }
        lines.push(format!("- {}", conflict.field()));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}

struct Owner<'m>(&'m Manager);

impl fmt::Display for Owner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.name)?;
        if !self.0.subresource.is_empty() {
            write!(f, " with subresource {:?}", self.0.subresource)?;
        }
        match self.0.operation {
            Operation::Apply => Ok(()),
            Operation::Update => write!(f, " using {}", self.0.api_version),
        }
    }
}
