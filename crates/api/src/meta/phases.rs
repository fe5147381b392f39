//! VMI phases and VM printable states, as the API writes them.

/// `status.phase` of a VirtualMachineInstance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VmiPhase {
    /// Not set yet (the empty string).
    Unset,
    Pending,
    Scheduling,
    Scheduled,
    Running,
    Succeeded,
    Failed,
    Unknown,
}

impl VmiPhase {
    /// Reads a phase; an absent one is [`VmiPhase::Unset`], a foreign word [`VmiPhase::Unknown`].
    pub fn parse(text: Option<&str>) -> Self {
        match text.unwrap_or("") {
            "" => Self::Unset,
            "Pending" => Self::Pending,
            "Scheduling" => Self::Scheduling,
            "Scheduled" => Self::Scheduled,
            "Running" => Self::Running,
            "Succeeded" => Self::Succeeded,
            "Failed" => Self::Failed,
            _ => Self::Unknown,
        }
    }

    /// The word the API uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unset => "",
            Self::Pending => "Pending",
            Self::Scheduling => "Scheduling",
            Self::Scheduled => "Scheduled",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
            Self::Unknown => "Unknown",
        }
    }

    /// Whether the VMI has ended for good.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}
