//! A pseudo-terminal: the screen and keyboard of a person, for programs that ask whether they have one.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use super::eventually;

/// A terminal, and the program that runs in it; killed when this is dropped.
pub struct Terminal {
    /// The side of the person.
    person: File,
    /// The side of the program, kept open so that the terminal outlives it.
    program: OwnedFd,
    child: Option<Child>,
    drawn: Arc<Mutex<Vec<u8>>>,
}

fn size(columns: u16, rows: u16) -> libc::winsize {
    libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

impl Terminal {
    pub fn open(columns: u16, rows: u16) -> Self {
        let (mut person, mut program) = (-1, -1);
        let size = size(columns, rows);
        // SAFETY: both integers and the size live through the call; no name and no settings are asked for.
        let answer = unsafe {
            libc::openpty(&mut person, &mut program, std::ptr::null_mut(), std::ptr::null(), &size)
        };
        assert_eq!(answer, 0, "openpty: {}", std::io::Error::last_os_error());
        // SAFETY: the call has just made both, and nobody else has them.
        let (person, program) = unsafe { (File::from_raw_fd(person), OwnedFd::from_raw_fd(program)) };
        for fd in [person.as_raw_fd(), program.as_raw_fd()] {
            // SAFETY: no memory is involved. A child of another test must not hold this terminal open.
            assert_eq!(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) }, 0);
        }
        Self { person, program, child: None, drawn: Arc::default() }
    }

    /// Runs `command` with this as its terminal.
    pub fn start(&mut self, mut command: Command) {
        let side = || Stdio::from(self.program.try_clone().unwrap());
        command.stdin(side()).stdout(side()).stderr(side());
        // SAFETY: both are system calls that are allowed between fork and exec.
        unsafe {
            command.pre_exec(|| match libc::setsid() != -1 && libc::ioctl(0, libc::TIOCSCTTY, 0) != -1 {
                true => Ok(()),
                false => Err(std::io::Error::last_os_error()),
            });
        }
        self.child = Some(command.spawn().unwrap());
        let (mut person, drawn) = (self.person.try_clone().unwrap(), Arc::clone(&self.drawn));
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            // The end comes as an error, when nobody holds the other side any more.
            while let Ok(length @ 1..) = person.read(&mut piece) {
                drawn.lock().unwrap().extend_from_slice(&piece[..length]);
            }
        });
    }

    /// All that was written to the screen so far.
    pub fn drawn(&self) -> String {
        String::from_utf8_lossy(&self.drawn.lock().unwrap()).into_owned()
    }

    pub fn write(&mut self, keys: &str) {
        self.person.write_all(keys.as_bytes()).unwrap();
    }

    pub fn resize(&self, columns: u16, rows: u16) {
        let size = size(columns, rows);
        // SAFETY: the size lives through the call. The kernel tells the program by SIGWINCH.
        let answer = unsafe { libc::ioctl(self.person.as_raw_fd(), libc::TIOCSWINSZ, &size) };
        assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
    }

    pub fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.child.as_ref().unwrap().id()).unwrap();
        // SAFETY: no memory is involved. The child has not been waited for, so the id is its own.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    /// Modes of the terminal: echo, line editing, signals by keys, and so on.
    pub fn settings(&self) -> [libc::tcflag_t; 4] {
        let mut settings = std::mem::MaybeUninit::<libc::termios>::uninit();
        // SAFETY: the call fills the whole structure when it succeeds, which is asserted before it is read.
        let settings = unsafe {
            assert_eq!(libc::tcgetattr(self.program.as_raw_fd(), settings.as_mut_ptr()), 0);
            settings.assume_init()
        };
        [settings.c_iflag, settings.c_oflag, settings.c_cflag, settings.c_lflag]
    }

    /// Waits until the program has ended; its status, and all that it wrote.
    pub fn end(&mut self) -> (ExitStatus, String) {
        let mut child = self.child.take().unwrap();
        let status =
            eventually("the program to end", || child.try_wait().unwrap().ok_or_else(|| self.drawn()));
        // A mark of our own through the same terminal: what the program wrote before is read when it arrives.
        let mark = "\u{1}end of the program\u{1}";
        File::from(self.program.try_clone().unwrap()).write_all(mark.as_bytes()).unwrap();
        let text = eventually("the rest of the screen", || {
            let drawn = self.drawn();
            drawn.split_once(mark).map(|(text, _)| text.to_owned()).ok_or(drawn)
        });
        (status, text)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Either may fail only because the process has ended, which is what is wanted.
            drop(child.kill());
            drop(child.wait());
        }
    }
}
