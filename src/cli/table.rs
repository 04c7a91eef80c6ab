//! Tables that fit the terminal.
//!
//! A pipe or file gets every cell in full. On a terminal that is too narrow, digests are shortened first, then
//! names are cut in the middle, then columns are dropped: first minor ones, whose content other lines have too,
//! then the others, the last one first.

use std::os::fd::AsFd;

use clap::Args;
use sealift::escape::Escaped;
use sealift::oci::Digest;

/// Gap between two columns.
const GAP: &str = "   ";
/// Replaces what was cut from a cell.
const CUT: char = '…';
/// A cell is not cut to fewer characters than this while there are other columns.
const NARROWEST: usize = 20;

/// How tables are printed.
#[derive(Args, Clone, Copy)]
pub struct TableArgs {
    /// Do not shorten digests and names to fit the terminal
    #[arg(long, display_order = 899)]
    no_trunc: bool,
}

impl TableArgs {
    /// Width of the terminal on `stream` in characters; `None` if it is not a terminal, or with `--no-trunc`.
    pub fn width(&self, stream: impl AsFd) -> Option<usize> {
        if self.no_trunc {
            return None;
        }
        let size = rustix::termios::tcgetwinsize(stream).ok()?;
        Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
    }
}

/// A column's title, and how its cells may be shortened.
#[derive(Clone, Copy)]
pub enum Column {
    /// Digests: the short form is `sha256:` and twelve digits.
    Digest(&'static str),
    /// Names: cut in the middle, because the tag matters more than the path.
    Name(&'static str),
    /// Lists: cut at the end.
    List(&'static str),
    /// Never shortened.
    Text(&'static str),
    /// Never shortened, and dropped before others, the first one first.
    Minor(&'static str),
    /// A list that is dropped in the same way.
    MinorList(&'static str),
}

impl Column {
    fn title(self) -> &'static str {
        match self {
            Column::Digest(title)
            | Column::Name(title)
            | Column::List(title)
            | Column::Text(title)
            | Column::Minor(title)
            | Column::MinorList(title) => title,
        }
    }

    /// A cell, cut to `width` characters.
    fn cut(self, text: &str, width: usize) -> String {
        let count = text.chars().count();
        if count <= width {
            return text.into();
        }
        let kept = width.saturating_sub(1);
        let head = match self {
            Column::List(_) | Column::MinorList(_) => kept,
            _ => kept / 2,
        };
        let tail = text.chars().skip(count - (kept - head));
        text.chars().take(head).chain([CUT]).chain(tail).collect()
    }

    fn is_cut(self) -> bool {
        matches!(self, Column::Name(_) | Column::List(_) | Column::MinorList(_))
    }

    fn is_minor(self) -> bool {
        matches!(self, Column::Minor(_) | Column::MinorList(_))
    }
}

/// Formats rows below their titles, in lines of at most `width` characters.
pub fn table(columns: &[Column], rows: &[Vec<String>], width: Option<usize>) -> Vec<String> {
    let titles = columns.iter().map(|column| column.title().to_string()).collect();
    let rows = [vec![titles], rows.to_vec()].concat();
    untitled(columns, &rows, width)
}

/// The same without titles.
pub fn untitled(columns: &[Column], rows: &[Vec<String>], width: Option<usize>) -> Vec<String> {
    let escaped = |row: &Vec<String>| row.iter().map(|cell| Escaped(cell).to_string()).collect();
    let mut rows: Vec<Vec<String>> = rows.iter().map(escaped).collect();
    let mut columns = columns.to_vec();
    let mut widths = widths(&columns, &rows);
    if let Some(limit) = width
        && total(&widths) > limit
    {
        for row in &mut rows {
            shorten_digests(&columns, row);
        }
        widths = self::widths(&columns, &rows);
        while widths.len() > 1 && total(&narrowest(&columns, &widths)) > limit {
            let dropped = columns.iter().position(|column| column.is_minor());
            let dropped = dropped.unwrap_or(columns.len() - 1);
            columns.remove(dropped);
            widths.remove(dropped);
            rows.iter_mut().filter(|row| row.len() > dropped).for_each(|row| {
                row.remove(dropped);
            });
        }
        widths = fitting(&columns, widths, limit);
    }
    rows.iter().map(|row| line(&columns, row, &widths)).collect()
}

fn widths(columns: &[Column], rows: &[Vec<String>]) -> Vec<usize> {
    let width = |at: usize| {
        let cells = rows.iter().filter_map(|row| row.get(at));
        cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    (0..columns.len()).map(width).collect()
}

fn total(widths: &[usize]) -> usize {
    let gaps = widths.len().saturating_sub(1) * GAP.len();
    widths.iter().sum::<usize>() + gaps
}

/// The widths below which columns are dropped.
fn narrowest(columns: &[Column], widths: &[usize]) -> Vec<usize> {
    let pairs = columns.iter().zip(widths);
    let narrowest = pairs.map(|(column, width)| match column.is_cut() {
        true => NARROWEST.min(*width),
        false => *width,
    });
    narrowest.collect()
}

/// The widths with which the remaining columns fit.
fn fitting(columns: &[Column], mut widths: Vec<usize>, limit: usize) -> Vec<usize> {
    let floor = narrowest(columns, &widths);
    while total(&widths) > limit {
        // The widest shrinks first.
        let gives = widths
            .iter_mut()
            .zip(&floor)
            .filter(|(width, floor)| **width > **floor);
        match gives.max_by_key(|(width, _)| **width) {
            Some((width, _)) => *width -= 1,
            None => break,
        }
    }
    if let [only] = widths.as_mut_slice() {
        *only = limit.min(*only);
    }
    widths
}

fn line(columns: &[Column], row: &[String], widths: &[usize]) -> String {
    let cells = columns.iter().zip(row).zip(widths);
    let cells = cells.map(|((column, cell), width)| format!("{:<width$}", column.cut(cell, *width)));
    cells.collect::<Vec<_>>().join(GAP).trim_end().to_string()
}

/// Shortens digests, including those at the end of names.
fn shorten_digests(columns: &[Column], row: &mut [String]) {
    for (column, cell) in columns.iter().zip(row) {
        let start = match column {
            Column::Digest(_) => 0,
            Column::Name(_) => cell.rfind('@').map_or(0, |at| at + 1),
            _ => continue,
        };
        let digest = cell.get(start..).and_then(|text| text.parse::<Digest>().ok());
        if let Some(digest) = digest {
            cell.truncate(start);
            cell.push_str(&format!("{}:{}", digest.algorithm(), digest.short()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 4] = [
        Column::Name("NAME"),
        Column::Digest("DIGEST"),
        Column::Text("EVIDENCE"),
        Column::Text("SIZE"),
    ];

    fn shown(width: Option<usize>) -> String {
        let digest = Digest::sha256(b"");
        let row = |name: &str, digest: &str| {
            let cells = [name, digest, "verified", "55 MB"];
            cells.map(str::to_string).to_vec()
        };
        let rows = [
            row("httpd:2.4", &digest.to_string()),
            row("registry.example.com/team/project/service:2.4.1", "<none>"),
        ];
        let lines = table(&COLUMNS, &rows, width);
        for line in &lines {
            assert!(width.is_none_or(|width| line.chars().count() <= width), "{line}");
        }
        lines.join("\n")
    }

    #[test]
    fn a_pipe_and_a_wide_terminal_get_everything() {
        let all = shown(None);
        assert!(all.contains(&Digest::sha256(b"").to_string()) && all.contains("project/service"));
        assert_eq!(shown(Some(300)), all);
        let widest = all.lines().map(|line| line.chars().count()).max().unwrap();
        assert_eq!(shown(Some(widest)), all);
    }

    #[test]
    fn digests_give_first_then_names_then_columns() {
        insta::assert_snapshot!(shown(Some(100)), @r"
        NAME                                              DIGEST                EVIDENCE   SIZE
        httpd:2.4                                         sha256:e3b0c44298fc   verified   55 MB
        registry.example.com/team/project/service:2.4.1   <none>                verified   55 MB
        ");
        insta::assert_snapshot!(shown(Some(72)), @r"
        NAME                              DIGEST                EVIDENCE   SIZE
        httpd:2.4                         sha256:e3b0c44298fc   verified   55 MB
        registry.exampl…t/service:2.4.1   <none>                verified   55 MB
        ");
        insta::assert_snapshot!(shown(Some(59)), @r"
        NAME                         DIGEST                EVIDENCE
        httpd:2.4                    sha256:e3b0c44298fc   verified
        registry.exa…service:2.4.1   <none>                verified
        ");
        insta::assert_snapshot!(shown(Some(45)), @r"
        NAME                      DIGEST
        httpd:2.4                 sha256:e3b0c44298fc
        registry.ex…rvice:2.4.1   <none>
        ");
        insta::assert_snapshot!(shown(Some(12)), @r"
        NAME
        httpd:2.4
        regis…:2.4.1
        ");
        for width in 1..150 {
            shown(Some(width));
        }
    }

    #[test]
    fn minor_columns_are_dropped_before_others_the_first_one_first() {
        let columns = [
            Column::Name("NAME"),
            Column::Minor("EVIDENCE"),
            Column::MinorList("PLATFORMS"),
            Column::Text("CHANGE"),
        ];
        let row = ["httpd:2.4", "verified", "linux/amd64", "moved from 4b4c290aa643"].map(str::to_string);
        let shown = |width| table(&columns, &[row.to_vec()], Some(width)).join("\n");
        assert!(shown(60).contains("EVIDENCE") && shown(60).contains("PLATFORMS"));
        assert!(!shown(55).contains("EVIDENCE") && shown(55).contains("PLATFORMS"));
        assert!(!shown(40).contains("PLATFORMS") && shown(40).contains("moved from 4b4c290aa643"));
        assert!(!shown(30).contains("CHANGE"));
    }

    #[test]
    fn the_digest_of_a_name_is_shortened_before_the_name_is_cut() {
        let name = format!("httpd@{}", Digest::sha256(b""));
        let lines = table(&[Column::Name("NAME")], &[vec![name]], Some(40));
        assert_eq!(lines, ["NAME", "httpd@sha256:e3b0c44298fc"]);
    }

    #[test]
    fn what_a_terminal_would_act_on_is_escaped_before_it_is_cut() {
        let lines = table(&[Column::Name("NAME")], &[vec!["a\u{1b}[2Jb".into()]], Some(8));
        assert!(lines.iter().all(|line| !line.contains('\u{1b}')), "{lines:?}");
    }
}
