//! Owns the terminal while the demo runs: draws the view, listens for keys, and gives the terminal back as it was,
//! on `q`, on a signal and on a panic.

use std::io::{self, IsTerminal, Write};
use std::panic;
use std::time::{Duration, Instant};

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use crossterm::style::Print;
use crossterm::terminal::{
    self, BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate, EnterAlternateScreen,
    LeaveAlternateScreen,
};
use crossterm::{execute, queue};
use tokio_util::sync::CancellationToken;

use super::paint::{Paint, is_dumb};
use super::view::Scene;

/// Keys are looked for this often, and so are signals and new numbers.
const TICK: Duration = Duration::from_millis(100);
/// A line is printed this often when there is no screen.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// The terminal, taken over until this is dropped.
struct Screen;

impl Screen {
    fn open() -> io::Result<Self> {
        terminal::enable_raw_mode()?;
        // From here on, drop gives the terminal back, also when the next line fails.
        let screen = Self;
        let earlier = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            restore();
            earlier(info);
        }));
        execute!(io::stdout(), EnterAlternateScreen, Hide, Clear(ClearType::All))?;
        Ok(screen)
    }

    fn draw(&self, lines: &[String]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        queue!(out, BeginSynchronizedUpdate)?;
        for (row, line) in (0_u16..).zip(lines) {
            queue!(out, MoveTo(0, row), Print(line), Clear(ClearType::UntilNewLine))?;
        }
        queue!(out, Clear(ClearType::FromCursorDown), EndSynchronizedUpdate)?;
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // The hook of `open` wraps the earlier one and only restores: harmless to leave in place.
            restore();
        }
    }
}

/// Gives the terminal back. Safe to call twice, or when it was never taken; one that is gone needs no restoring.
pub fn restore() {
    if terminal::is_raw_mode_enabled().unwrap_or(false) {
        let _ = execute!(io::stdout(), Show, LeaveAlternateScreen);
        let _ = terminal::disable_raw_mode();
    }
}

/// How the demo shows itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The full screen.
    Screen,
    /// A line per second.
    Lines,
    /// Nothing until the report.
    Silent,
}

impl Mode {
    /// The screen needs a terminal on both sides, and one that can be drawn on.
    pub fn choose(is_silent: bool) -> Self {
        let draws = io::stdout().is_terminal() && io::stdin().is_terminal() && !is_dumb();
        match (is_silent, draws) {
            (true, _) => Self::Silent,
            (false, true) => Self::Screen,
            (false, false) => Self::Lines,
        }
    }
}

/// Shows the scene that `with_scene` hands to its argument until `q`, Ctrl-C, `stop` or `until`.
pub fn show(
    mode: Mode,
    paint: Paint,
    stop: &CancellationToken,
    until: Option<Instant>,
    with_scene: impl Fn(&mut dyn FnMut(&Scene<'_>)),
) -> io::Result<()> {
    let screen = if mode == Mode::Screen { Some(Screen::open()?) } else { None };
    let mut drawn = None;
    let mut line_due = Instant::now() + LINE_EVERY;
    while !stop.is_cancelled() && until.is_none_or(|until| Instant::now() < until) {
        if let Some(screen) = &screen {
            let (columns, rows) = terminal::size()?;
            let mut lines = Vec::new();
            with_scene(&mut |scene| lines = scene.screen(paint, columns.into(), rows.into()));
            // Once a second, and at once after a resize, not at every look for keys: the terminal may be far away.
            let frame = Some((columns, rows, lines));
            if frame != drawn {
                screen.draw(frame.as_ref().map_or(&[], |(_, _, lines)| lines))?;
                drawn = frame;
            }
            if event::poll(TICK)? && is_end(&event::read()?) {
                break;
            }
            continue;
        }
        std::thread::sleep(TICK);
        if mode == Mode::Lines && Instant::now() >= line_due {
            line_due += LINE_EVERY;
            let mut line = String::new();
            with_scene(&mut |scene| line = scene.line(paint));
            writeln!(io::stdout(), "{line}")?;
        }
    }
    Ok(())
}

fn is_end(event: &Event) -> bool {
    let Event::Key(key) = event else { return false };
    let is_control_c = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind != KeyEventKind::Release
        && (is_control_c || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossterm::event::KeyEvent;

    #[test]
    fn q_and_control_c_end_it() {
        let key = |code, modifiers| is_end(&Event::Key(KeyEvent::new(code, modifiers)));
        assert!(key(KeyCode::Char('q'), KeyModifiers::NONE));
        assert!(key(KeyCode::Char('c'), KeyModifiers::CONTROL));
        assert!(!key(KeyCode::Char('c'), KeyModifiers::NONE));
        assert!(!is_end(&Event::Resize(80, 24)));
    }
}
