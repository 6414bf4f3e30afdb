//! What `strace` saw: the system calls of a process, in an order that says what was durable when.

use std::collections::HashMap;

/// One system call of a trace.
pub struct Call {
    pub name: String,
    /// The line of its beginning: its arguments, with what its descriptors are (`strace -y`).
    pub text: String,
}

/// The calls that `strace -f -y` wrote: syncs that succeeded in the order of their ends, others in that of their beginnings.
/// A call during which another thread made one has two lines.
pub fn calls(trace: &str) -> Vec<Call> {
    let mut begun: HashMap<&str, &str> = HashMap::new();
    let mut calls = Vec::new();
    for line in trace.lines() {
        let Some((thread, said)) = line.split_once(' ') else { continue };
        let said = said.trim_start();
        let (call, begins, ends) = match said.split_once(" <unfinished ...>") {
            Some((call, _)) => {
                begun.insert(thread, call);
                (call, true, false)
            }
            None if said.starts_with("<... ") => (begun.remove(thread).unwrap_or_default(), false, true),
            None => (said, true, true),
        };
        let Some((name, rest)) = call.split_once('(') else { continue };
        let counts = if name.ends_with("sync") { ends && said.ends_with("= 0") } else { begins };
        if counts {
            calls.push(Call { name: name.to_owned(), text: rest.to_owned() });
        }
    }
    calls
}

impl Call {
    /// The file under a folder that it is about (the second one of a rename), by its path from there.
    pub fn path(&self, folder: &str) -> Option<&str> {
        let from = self.text.rfind(folder)? + folder.len();
        let path = self.text[from..].split(['"', '>']).next().unwrap_or_default();
        Some(path.trim_start_matches('/'))
    }
}
