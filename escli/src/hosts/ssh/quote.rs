//! Quoting for a remote shell, since sshd passes a command to the user's shell as one line.

/// Joins words to one line, which a POSIX shell splits into the same words again.
///
/// A NUL byte, which no argument can contain, is left as it is; such a command is refused when it is run.
pub fn join<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().map(word).collect::<Vec<_>>().join(" ")
}

/// Returns one word, quoted if a shell would change it otherwise.
pub fn word(word: &str) -> String {
    let quoted = shlex::Quoter::new().allow_nul(true).quote(word);
    quoted.map_or_else(|_| word.to_owned(), std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_takes_the_words_apart_again() {
        let words = [
            "printf",
            "%s\\0",
            "a b",
            "",
            "it's",
            "$HOME `id` \"q\" \\",
            "-x",
            "ü",
            "a\nb",
            "!x",
            "~",
            "{a,b}",
        ];
        let line = join(words);
        let out = std::process::Command::new("sh").args(["-c", &line]).output().expect("sh");
        let got: Vec<_> = out.stdout.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        assert_eq!(got[..got.len() - 1], words[2..], "{line}");
    }

    #[test]
    fn a_plain_word_stays_plain() {
        assert_eq!(
            join(["systemctl", "start", "eventstream.service"]),
            "systemctl start eventstream.service"
        );
    }
}
