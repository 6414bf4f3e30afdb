//! Starts this program anew, from where it was started, so that the file that lies there now takes over.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use super::give::{Desk, Next};

/// The flag that makes a start a take-over.
const FLAG: &str = "--take-over";
/// The process that a container ends with.
const FIRST_PID: u32 = 1;
/// Words that the new process has time for, each as long as one may take: its start, and the hand-over.
const WORDS: u32 = 3;

/// How this process was started.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    args: Vec<OsString>,
}

impl Program {
    /// Finds it out. The name is the one that was used rather than the file that it led to, which may be another by now.
    ///
    /// # Errors
    /// When the system does not say where the program is.
    pub fn of_this_process() -> std::io::Result<Self> {
        let mut args = std::env::args_os();
        let name = args.next().unwrap_or_default();
        let found = match Path::new(&name).components().count() {
            0 => None,
            1 if !name.as_encoded_bytes().contains(&b'/') => {
                on_path(&name, std::env::var_os("PATH").as_deref())
            }
            _ => Some(PathBuf::from(name)),
        };
        let path = match found {
            Some(path) => std::path::absolute(path)?,
            None => std::env::current_exe()?,
        };
        Ok(Self { path, args: with_flag(args) })
    }
}

/// The arguments, with the one that makes it a take-over.
fn with_flag(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    args.filter(|arg| arg != FLAG).chain(std::iter::once(FLAG.into())).collect()
}

fn on_path(name: &OsStr, path: Option<&OsStr>) -> Option<PathBuf> {
    std::env::split_paths(path?).map(|folder| folder.join(name)).find(|file| file.is_file())
}

impl Desk {
    /// Starts the program and waits until it serves.
    ///
    /// # Errors
    /// Why it does not, in words for people.
    pub async fn launch(&self) -> Result<Next, String> {
        if std::process::id() == FIRST_PID {
            return Err("process 1 cannot be replaced: its container would end with it".to_owned());
        }
        let Ok(_turn) = self.launching.try_lock() else {
            return Err("an upgrade is under way already".to_owned());
        };
        let mut served = self.served.subscribe();
        let program = &self.program;
        let mut child = Command::new(&program.path)
            .args(&program.args)
            .stdin(Stdio::null())
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", program.path.display()))?;
        let pid = child.id().unwrap_or(0);
        tracing::info!(pid, program = %program.path.display(), "started a process to take over");
        let patience = self.patience * WORDS;
        tokio::select! {
            next = served.wait_for(Option::is_some) => {
                let next = next.ok().and_then(|next| next.clone());
                next.ok_or_else(|| "this process ends".to_owned())
            }
            ended = child.wait() => {
                let how = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
                Err(format!("process {pid} has ended before it served ({how}): its log says why"))
            }
            () = tokio::time::sleep(patience) => {
                let killed = child.start_kill();
                let how = killed.map_or_else(|error| error.to_string(), |()| "was killed".to_owned());
                Err(format!("process {pid} did not serve within {patience:?}: it {how}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_is_there_once_and_names_are_looked_up_in_order() {
        let args = |list: &[&str]| list.iter().map(OsString::from).collect::<Vec<_>>();
        let with = |list: &[&str]| with_flag(args(list).into_iter());
        assert_eq!(with(&["run", "-d", "x"]), args(&["run", "-d", "x", FLAG]));
        assert_eq!(with(&["run", FLAG, "-d", "x"]), args(&["run", "-d", "x", FLAG]));
        let root = tempfile::tempdir().unwrap();
        for folder in ["one", "two", "three"] {
            std::fs::create_dir(root.path().join(folder)).unwrap();
        }
        for folder in ["two", "three"] {
            std::fs::write(root.path().join(folder).join("program"), "").unwrap();
        }
        let path =
            std::env::join_paths(["one", "two", "three"].map(|folder| root.path().join(folder))).unwrap();
        let found = on_path("program".as_ref(), Some(&path));
        assert_eq!(found, Some(root.path().join("two/program")));
        assert_eq!(on_path("other".as_ref(), Some(&path)), None);
    }
}
