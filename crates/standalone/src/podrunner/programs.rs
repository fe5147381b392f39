//! The programs the pod runner can run: our own images, as binaries beside the running one.

use std::path::PathBuf;

/// Maps image references to programs.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The image reference launcher pods carry.
    pub launcher_image: String,
    /// The virt-launcher binary.
    pub launcher: PathBuf,
}

/// A command of ours, resolved to a file of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    pub path: PathBuf,
    pub args: Vec<String>,
}

impl Programs {
    /// Resolves a container's image and command.
    ///
    /// # Errors
    /// The text for the user when the image is not one of ours or the command is not in it.
    pub fn resolve(&self, image: &str, command: &[String], args: &[String]) -> Result<Program, String> {
        if image != self.launcher_image {
            return Err(format!(
                "image \"{image}\" cannot run here: the embedded pod runner runs only Ferrovirt's own images ({}); \
                 run other containers on a Kubernetes cluster, or put the workload into a VM",
                self.launcher_image
            ));
        }
        let mut words = command.iter().chain(args).cloned();
        match words.next().as_deref() {
            Some("/usr/bin/virt-launcher") => Ok(Program { path: self.launcher.clone(), args: words.collect() }),
            other => Err(format!(
                "image \"{image}\" has no program \"{}\": it holds only /usr/bin/virt-launcher",
                other.unwrap_or_default()
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_images_and_commands_are_refused_by_name() {
        let programs = Programs { launcher_image: "ours:1".into(), launcher: "/x/virt-launcher".into() };
        let command = ["/usr/bin/virt-launcher".to_string(), "run".to_string()];
        let program = programs.resolve("ours:1", &command, &["--x".to_string()]).unwrap();
        assert_eq!((program.path, program.args), (PathBuf::from("/x/virt-launcher"), vec!["run".into(), "--x".into()]));
        assert!(programs.resolve("nginx", &command, &[]).unwrap_err().contains("\"nginx\""));
        assert!(programs.resolve("ours:1", &["/bin/sh".to_string()], &[]).unwrap_err().contains("/bin/sh"));
    }
}
