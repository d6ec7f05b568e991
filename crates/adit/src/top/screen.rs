//! The terminal while a live table is on it: one key at a time, a screen of its own, and everything as it was afterwards.

use std::{
    io::{self, Read, Write},
    sync::mpsc::Sender,
    thread,
};

use rustix::termios::{self, LocalModes, OptionalActions, Termios};

use crate::signals::Signals;

/// What a terminal that does not say its size is taken to have.
const SIZE_DEFAULT: Size = Size {
    rows: 24,
    columns: 80,
};
/// Another screen, and no cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
/// The screen as it was.
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// Ctrl-C, where the terminal does not make a signal of it.
const CTRL_C: u8 = 3;

/// What comes in between two looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// A key.
    Key(u8),
    /// A signal, or `q`.
    End,
}

/// How much there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) rows: usize,
    pub(super) columns: usize,
}

/// The terminal; as it was before when this is dropped.
pub(super) struct Screen {
    before: Termios,
}

impl Screen {
    /// Takes the terminal, and tells of its keys.
    pub(super) fn open(heard: Sender<Heard>) -> io::Result<Self> {
        let before = termios::tcgetattr(io::stdin())?;
        let mut mode = before.clone();
        mode.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
        termios::tcsetattr(io::stdin(), OptionalActions::Now, &mode)?;
        let screen = Self { before };
        thread::Builder::new().name("keys".to_owned()).spawn(move || {
            for key in io::stdin().lock().bytes().map_while(Result::ok) {
                let said = match key {
                    b'q' | b'Q' | CTRL_C => Heard::End,
                    key => Heard::Key(key),
                };
                if heard.send(said).is_err() {
                    return;
                }
            }
            // The terminal went away.
            let _ = heard.send(Heard::End);
        })?;
        print(ENTER)?;
        Ok(screen)
    }

    /// How much there is room for now.
    pub(super) fn size(&self) -> Size {
        match termios::tcgetwinsize(io::stdout()) {
            Ok(size) if size.ws_row > 0 && size.ws_col > 0 => Size {
                rows: size.ws_row.into(),
                columns: size.ws_col.into(),
            },
            _ => SIZE_DEFAULT,
        }
    }

    /// Shows a text in place of what is there.
    pub(super) fn show(&mut self, text: &str) -> io::Result<()> {
        let mut out = String::from("\x1b[H");
        for line in text.lines() {
            out.push_str(line);
            out.push_str("\x1b[K\r\n");
        }
        out.push_str("\x1b[J");
        print(&out)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Where it is gone, there is nothing to put back.
        let _ = print(LEAVE);
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Writes to standard output at once.
pub(super) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Tells of the signals that end a process; from now on none does by itself.
pub(super) fn hear_signals(heard: Sender<Heard>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut signals = {
        let _inside = runtime.enter();
        Signals::open(false)?
    };
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(signals.end());
        let _ = heard.send(Heard::End);
    })?;
    Ok(())
}
