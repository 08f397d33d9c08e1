//! Words for a remote shell: sshd hands a command to the user's shell as one line.

/// The words as one line that a POSIX shell takes apart into the same words again.
///
/// A NUL byte, which no argument can hold, is left as it is; the command is refused when it is run.
pub fn join<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().map(word).collect::<Vec<_>>().join(" ")
}

/// One word, quoted where a shell would see more in it than itself.
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
