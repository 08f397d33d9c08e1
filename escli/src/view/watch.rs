//! The live view of `watch`. What is drawn is a pure function of what was observed; [`Screen`] owns the terminal.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Sparkline, Table, Wrap};
use ratatui::{DefaultTerminal, Frame};
use shared::api::{ConsumerGroup, ConsumerGroups};
use shared::ids::NodeId;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::status;
use crate::overview::{ConfigState, Liveness, NodeRow, Overview, Verdict};

/// Number of inspections that are remembered: more than fit on any terminal.
const MAX_SAMPLES: usize = 500;

/// Most consumer groups that are shown.
const MAX_GROUPS: usize = 10;

/// How often the thread that reads keys checks whether anybody still listens.
const KEY_POLL_INTERVAL: Duration = Duration::from_millis(200);

/// One inspection, reduced to what is drawn over time.
#[derive(Clone, Debug)]
struct Sample {
    at: Duration,
    commit: Option<u64>,
    nodes: Vec<Point>,
}

/// One node in a sample.
#[derive(Clone, Copy, Debug)]
struct Point {
    id: NodeId,
    applied: Option<u64>,
    lag: Option<u64>,
}

/// The inspections so far.
#[derive(Clone, Debug, Default)]
pub struct History {
    samples: VecDeque<Sample>,
}

impl History {
    /// Adds an inspection, made `at` this time after the first one.
    pub fn push(&mut self, at: Duration, seen: &Overview) {
        if self.samples.len() == MAX_SAMPLES {
            self.samples.pop_front();
        }
        let point = |node: &NodeRow| Point { id: node.id, applied: node.applied_index, lag: node.lag };
        let nodes = seen.nodes.iter().map(point).collect();
        self.samples.push_back(Sample { at, commit: seen.commit_index, nodes });
    }

    /// Returns the entries committed per second between each inspection and the one before; `None` if one of them found
    /// no commit index.
    pub fn rates(&self) -> Vec<Option<u64>> {
        self.per_second(|sample| sample.commit)
    }

    /// Returns the entries per second that one node has applied between inspections.
    pub fn rates_of(&self, id: NodeId) -> Vec<Option<u64>> {
        self.per_second(|sample| sample.of(id)?.applied)
    }

    /// Returns one node's lag at each inspection.
    pub fn lags(&self, id: NodeId) -> Vec<Option<u64>> {
        self.samples.iter().map(|sample| sample.of(id)?.lag).collect()
    }

    fn per_second(&self, index: impl Fn(&Sample) -> Option<u64>) -> Vec<Option<u64>> {
        let pairs = self.samples.iter().zip(self.samples.iter().skip(1));
        let rate = |(before, after): (&Sample, &Sample)| {
            let ms =
                u64::try_from(after.at.saturating_sub(before.at).as_millis()).ok().filter(|ms| *ms > 0)?;
            // A restarted node starts again from a lower index.
            Some(index(after)?.saturating_sub(index(before)?).saturating_mul(1000) / ms)
        };
        pairs.map(rate).collect()
    }
}

impl Sample {
    fn of(&self, id: NodeId) -> Option<Point> {
        self.nodes.iter().find(|point| point.id == id).copied()
    }
}

/// Draws everything from the top. What does not fit is cut off at the bottom, but not the footer.
pub fn draw(frame: &mut Frame<'_>, seen: &Overview, history: &History, footer: &str, color: bool) {
    let ink = Ink { color };
    let [body, foot] = Layout::vertical([Constraint::Min(0), Constraint::Length(1)]).areas(frame.area());
    let mut rest = body;
    let nodes = u16::try_from(seen.nodes.len()).unwrap_or(u16::MAX);
    frame.render_widget(Paragraph::new(headline(seen, ink)), take(&mut rest, 2));
    let area = take(&mut rest, nodes.saturating_add(2));
    frame.render_widget(table(seen, ink, area.width), area);
    let rates = history.rates();
    let now = rates.last().copied().flatten().map_or_else(|| "-".to_owned(), |rate| rate.to_string());
    frame.render_widget(Paragraph::new(format!("committed entries per second: {now}")), take(&mut rest, 1));
    let area = take(&mut rest, 3);
    spark(frame, area, &rates, most([&rates]), ink.style(Color::Cyan));
    let area = take(&mut rest, nodes);
    lines(frame, area, seen, history, ink);
    let remarks = remarks(seen, ink);
    let height = height(&remarks, rest.width);
    frame.render_widget(Paragraph::new(remarks).wrap(Wrap { trim: false }), take(&mut rest, height));
    if let Some(found) = &seen.groups {
        groups(frame, rest, found);
    }
    frame.render_widget(Paragraph::new(footer).style(ink.style(Color::DarkGray)), foot);
}

/// Draws each node's rate and lag over time, on the same scale for all nodes.
fn lines(frame: &mut Frame<'_>, area: Rect, seen: &Overview, history: &History, ink: Ink) {
    let rates: Vec<_> = seen.nodes.iter().map(|node| history.rates_of(node.id)).collect();
    let lags: Vec<_> = seen.nodes.iter().map(|node| history.lags(node.id)).collect();
    let (top_rate, top_lag) = (most(&rates), most(&lags));
    let number = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    for (((node, rates), lags), row) in seen.nodes.iter().zip(&rates).zip(&lags).zip(area.rows()) {
        let columns =
            [Constraint::Length(14), Constraint::Fill(1), Constraint::Length(12), Constraint::Fill(1)];
        let [rate_label, rate, lag_label, lag] = Layout::horizontal(columns).spacing(1).areas(row);
        let now = number(rates.last().copied().flatten());
        frame.render_widget(Paragraph::new(format!("n{} {now}/s", node.id)), rate_label);
        spark(frame, rate, rates, top_rate, ink.style(Color::Cyan));
        frame.render_widget(Paragraph::new(format!("lag {}", number(node.lag))), lag_label);
        spark(frame, lag, lags, top_lag, ink.style(Color::Yellow));
    }
}

/// Returns the largest of all values, at least 1.
fn most<'a>(all: impl IntoIterator<Item = &'a Vec<Option<u64>>>) -> u64 {
    all.into_iter().flatten().flatten().copied().max().unwrap_or_default().max(1)
}

/// Returns the next `height` rows, or as many as are left.
fn take(rest: &mut Rect, height: u16) -> Rect {
    let height = height.min(rest.height);
    let taken = Rect { height, ..*rest };
    *rest = Rect { y: rest.y + height, height: rest.height - height, ..*rest };
    taken
}

/// Draws the newest values that fit; a value of `top` has the full height.
fn spark(frame: &mut Frame<'_>, area: Rect, values: &[Option<u64>], top: u64, style: Style) {
    let newest = &values[values.len().saturating_sub(usize::from(area.width))..];
    let line = Sparkline::default().data(newest).max(top).style(style).absent_value_symbol(" ");
    frame.render_widget(line, area);
}

/// Colours, or none.
#[derive(Clone, Copy)]
struct Ink {
    color: bool,
}

impl Ink {
    fn style(self, color: Color) -> Style {
        if self.color { Style::new().fg(color) } else { Style::new() }
    }

    fn verdict(self, verdict: Verdict) -> Style {
        let color = match verdict {
            Verdict::Healthy => Color::Green,
            Verdict::Degraded => Color::Yellow,
            Verdict::Unavailable | Verdict::Unknown => Color::Red,
        };
        self.style(color).add_modifier(Modifier::BOLD)
    }
}

fn headline(seen: &Overview, ink: Ink) -> Line<'static> {
    let plain = status::headline(seen, super::paint::Paint::default());
    let verdict = seen.health.to_string();
    match plain.split_once(&verdict) {
        Some((before, after)) => Line::from(vec![
            Span::raw(before.to_owned()),
            Span::styled(verdict, ink.verdict(seen.health)),
            Span::raw(after.to_owned()),
        ]),
        None => Line::raw(plain),
    }
}

/// Returns a table with as many columns as fit; the reason gets the remaining width.
fn table(seen: &Overview, ink: Ink, width: u16) -> Table<'static> {
    let header = ["NODE", "ROLE", "HOST", "STATE", "VERSION", "APPLIED", "LAG", "CONTACT", "CONFIG"];
    let host = seen.nodes.iter().map(|node| node.host.len()).max().unwrap_or_default().clamp(4, 40);
    let widths = [4, 9, u16::try_from(host).unwrap_or(40), 11, 9, 10, 7, 8, 14];
    let mut used = 0;
    let fitting = widths.into_iter().take_while(|column| {
        used += column + 1;
        used <= width.saturating_add(1)
    });
    let mut columns: Vec<_> = fitting.map(Constraint::Length).collect();
    let all = columns.len() == widths.len();
    columns.extend(all.then_some(Constraint::Min(0)));
    let cells = columns.len();
    let rows = seen.nodes.iter().map(|node| Row::new(row(node, ink).into_iter().take(cells)));
    Table::new(rows.collect::<Vec<_>>(), columns)
        .header(Row::new(header.into_iter().take(cells)).style(Style::new().add_modifier(Modifier::BOLD)))
        .column_spacing(1)
}

fn row(node: &NodeRow, ink: Ink) -> Vec<Cell<'static>> {
    let nothing = || "-".to_owned();
    let number = |value: Option<u64>| value.map_or_else(nothing, |value| value.to_string());
    let state = match node.state {
        Liveness::Up => Color::Green,
        Liveness::Joining => Color::Yellow,
        Liveness::Unreachable => Color::Red,
    };
    let config = match node.config {
        Some(ConfigState::RestartNeeded) => ink.style(Color::Yellow),
        _ => Style::new(),
    };
    vec![
        Cell::new(node.id.to_string()),
        Cell::new(status::role(node)),
        Cell::new(node.host.clone()),
        Cell::new(status::state(node.state)).style(ink.style(state)),
        Cell::new(node.version.clone().unwrap_or_else(nothing)),
        Cell::new(number(node.applied_index)),
        Cell::new(number(node.lag)),
        Cell::new(node.contact_ms.map_or_else(nothing, |ms| format!("{ms} ms"))),
        Cell::new(node.config.map_or("-", status::config_text)).style(config),
        Cell::new(node.reason.clone().unwrap_or_default()),
    ]
}

/// Draws the groups with the most lag, as many as fit under an empty line and a header.
fn groups(frame: &mut Frame<'_>, mut rest: Rect, found: &ConsumerGroups) {
    let fitting = usize::from(rest.height.saturating_sub(3)).min(MAX_GROUPS);
    let shown = &found.groups[..found.groups.len().min(fitting)];
    if shown.is_empty() {
        return;
    }
    take(&mut rest, 1);
    let name = shown.iter().map(|group| group.name.len()).max().unwrap_or_default().clamp(5, 40);
    let widths = [u16::try_from(name).unwrap_or(40), 19, 7, 12, 12].map(Constraint::Length);
    let row = |group: &ConsumerGroup| {
        let numbers = [group.members, group.lag, group.max_lag].map(|value| value.to_string());
        Row::new([group.name.clone(), group.state.clone()].into_iter().chain(numbers))
    };
    let table = Table::new(shown.iter().map(row), widths)
        .header(
            Row::new(["GROUP", "STATE", "MEMBERS", "LAG", "MAX LAG"])
                .style(Style::new().add_modifier(Modifier::BOLD)),
        )
        .column_spacing(1);
    frame.render_widget(table, take(&mut rest, u16::try_from(shown.len() + 1).unwrap_or(u16::MAX)));
    let more = found.total.saturating_sub(shown.len() as u64);
    if more > 0 {
        frame.render_widget(Paragraph::new(status::more_groups(more)), rest);
    }
}

/// Returns how many rows the lines need at this width. One that is broken may need another row to keep words whole.
fn height(lines: &[Line<'_>], width: u16) -> u16 {
    let width = usize::from(width.max(1));
    let rows = lines.iter().map(|line| match line.width().div_ceil(width) {
        0 | 1 => 1,
        rows => rows + 1,
    });
    u16::try_from(rows.sum::<usize>()).unwrap_or(u16::MAX)
}

fn remarks(seen: &Overview, ink: Ink) -> Vec<Line<'static>> {
    let mark = if seen.health_is_good() { "ok" } else { "!" };
    let reasons = seen.reasons.iter().map(|line| {
        Line::from(vec![Span::styled(mark, ink.verdict(seen.health)), Span::raw(format!(" {line}"))])
    });
    let notices = seen.notices.iter().map(|line| Line::raw(format!("note: {line}")));
    [Line::raw("")].into_iter().chain(reasons).chain(notices).collect()
}

/// The terminal, in raw mode on its alternate screen until the value is dropped. A panic restores it too.
#[derive(Debug)]
pub struct Screen {
    terminal: DefaultTerminal,
    color: bool,
}

/// An event on the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// `q` or Escape.
    Quit,
    /// Ctrl-C.
    Interrupt,
    /// The terminal has changed its size.
    Redraw,
}

impl Screen {
    /// Takes over the terminal.
    ///
    /// # Errors
    /// If standard output is not a terminal after all.
    pub fn open(color: bool) -> io::Result<Self> {
        ratatui::try_init().map(|terminal| Self { terminal, color })
    }

    /// Draws an inspection.
    ///
    /// # Errors
    /// If the terminal is closed.
    pub fn show(&mut self, seen: &Overview, history: &History, footer: &str) -> io::Result<()> {
        let color = self.color;
        self.terminal.draw(|frame| draw(frame, seen, history, footer, color)).map(drop)
    }

    /// Returns a channel with keys and changes of size from now on.
    pub fn keys(&self) -> UnboundedReceiver<Key> {
        let (sender, keys) = unbounded_channel();
        // Reading a terminal blocks, so it needs a thread of its own. The thread ends when nobody listens any more.
        std::thread::spawn(move || {
            while !sender.is_closed() {
                match event::poll(KEY_POLL_INTERVAL) {
                    Ok(false) => continue,
                    Ok(true) => {}
                    Err(_) => return,
                }
                let Ok(event) = event::read() else { return };
                if let Some(key) = meaning(&event) {
                    let _ = sender.send(key);
                }
            }
        });
        keys
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// PURE: returns what an event of the terminal means.
fn meaning(event: &Event) -> Option<Key> {
    match event {
        Event::Resize(..) => Some(Key::Redraw),
        Event::Key(KeyEvent { code, modifiers, kind: KeyEventKind::Press, .. }) => match code {
            KeyCode::Char('c' | 'C') if modifiers.contains(KeyModifiers::CONTROL) => Some(Key::Interrupt),
            KeyCode::Char('q' | 'Q') | KeyCode::Esc => Some(Key::Quit),
            _ => None,
        },
        _ => None,
    }
}
