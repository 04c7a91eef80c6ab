//! Text settings of TOML files, as far as engines' configurations need them: one a line, in quotes.

/// The settings of a table with their keys, in the order of the file. The table `""` is what comes before the first one.
/// Empty texts and values of other types are left out.
pub fn settings<'t>(text: &'t str, table: &str) -> Vec<(&'t str, &'t str)> {
    let mut is_inside = table.is_empty();
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[') {
            is_inside = !table.is_empty() && name.split(']').next().map(str::trim) == Some(table);
            continue;
        }
        let Some((key, value)) = line
            .split_once('=')
            .filter(|_| is_inside && !line.starts_with('#'))
        else {
            continue;
        };
        let value = value.trim();
        let quote = value.chars().next().filter(|first| ['"', '\''].contains(first));
        let inner = quote.and_then(|quote| value.get(1..)?.split_once(quote));
        if let Some((inner, _)) = inner.filter(|(inner, _)| !inner.is_empty()) {
            found.push((key.trim().trim_matches(['"', '\'']), inner));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_of_a_table_are_found() {
        let text = "\
            'a' = \"top\" # comment\n# a = \"no\"\ncount = 3\n[ crio ]\na = '/x'\nempty = \"\"\nlist = [\n  \"a=b\",\n]\n\
            [crio.image]\na = \"/y\"\n[[crio]]\na = \"/z\"\n";
        assert_eq!(settings(text, ""), [("a", "top")]);
        assert_eq!(settings(text, "crio"), [("a", "/x")]);
        assert_eq!(settings(text, "crio.image"), [("a", "/y")]);
        assert_eq!(settings(text, "none"), []);
    }
}
