//! Files and the documents in them.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use crate::{Diagnostic, Report, limits};

/// A file.
#[derive(Debug)]
pub(crate) struct File {
    /// Path as reported.
    pub(crate) name: String,
    /// Content.
    pub(crate) text: String,
}

/// One YAML document of a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Document<'a> {
    /// Path of its file as reported.
    pub(crate) file: &'a str,
    /// Lines of the file before it.
    pub(crate) lines_before: u64,
    /// Its text, without the marks around it.
    pub(crate) text: &'a str,
}

/// Reads every `*.yaml` and `*.yml` of the directory, in the order of their names. Hidden files and subdirectories are left
/// out: Kubernetes mounts a ConfigMap as links into a hidden directory, and editors leave their backups.
pub(crate) fn read(dir: &Path, report: &mut Report) -> Vec<File> {
    let mut whole = |path: &Path, problem: String, remedy: &str| {
        report.push(Diagnostic {
            file: path.display().to_string(),
            line: 0,
            object: String::new(),
            field: String::new(),
            problem,
            remedy: remedy.to_owned(),
        });
    };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => {
            whole(
                dir,
                format!("cannot read the directory: {error}"),
                "name a directory that exists and is readable",
            );
            return Vec::new();
        }
    };
    let mut paths: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| is_configuration(path))
        .collect();
    paths.sort();
    if paths.len() > limits::FILES {
        whole(
            dir,
            format!("{} files, more than {}", paths.len(), limits::FILES),
            "put several objects into one file, with lines of `---` between them",
        );
        return Vec::new();
    }
    let mut files = Vec::new();
    for path in paths {
        match read_file(&path) {
            Ok(text) => files.push(File {
                name: path.display().to_string(),
                text,
            }),
            Err((problem, remedy)) => whole(&path, problem, remedy),
        }
    }
    files
}

fn is_configuration(path: &Path) -> bool {
    let hidden = path
        .file_name()
        .is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    let yaml = path
        .extension()
        .is_some_and(|extension| extension == "yaml" || extension == "yml");
    !hidden && yaml && !path.is_dir()
}

fn read_file(path: &Path) -> Result<String, (String, &'static str)> {
    let readable = |error: std::io::Error| (format!("cannot read: {error}"), "make it readable");
    let mut bytes = Vec::new();
    fs::File::open(path)
        .map_err(readable)?
        .take(limits::FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(readable)?;
    if bytes.len() as u64 > limits::FILE_BYTES {
        let problem = format!("larger than {} bytes", limits::FILE_BYTES);
        return Err((problem, "split it into several files"));
    }
    String::from_utf8(bytes).map_err(|_| ("is not UTF-8".to_owned(), "save it in UTF-8 encoding"))
}

/// The documents of a file. A line that starts with `---` or `...` always ends one: in YAML not even a block of text may
/// hold such a line unindented.
pub(crate) fn documents(file: &File) -> Vec<Document<'_>> {
    let mut found = Vec::new();
    let (mut start, mut lines_before, mut position, mut line_number) = (0, 0, 0, 0);
    for line in file.text.split_inclusive('\n') {
        line_number += 1;
        let next = position + line.len();
        if is_mark(line) {
            found.push(Document {
                file: &file.name,
                lines_before,
                text: &file.text[start..position],
            });
            (start, lines_before) = (next, line_number);
        }
        position = next;
    }
    found.push(Document {
        file: &file.name,
        lines_before,
        text: &file.text[start..],
    });
    found.retain(|document| has_content(document.text));
    found
}

fn is_mark(line: &str) -> bool {
    ["---", "..."].iter().any(|mark| {
        line.strip_prefix(mark)
            .is_some_and(|rest| rest.trim().is_empty() || rest.trim_start().starts_with('#'))
    })
}

fn has_content(text: &str) -> bool {
    text.lines().any(|line| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with('#') && !line.starts_with('%')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_know_the_lines_before_them_and_empty_ones_are_left_out() {
        let file = File {
            name: "x.yaml".to_owned(),
            text: "# head\n---\na: 1\n--- # mark\n\n# nothing\n---\ntext: |\n  ---\nb: 2"
                .to_owned(),
        };
        let found: Vec<_> = documents(&file)
            .iter()
            .map(|document| (document.lines_before, document.text))
            .collect();
        assert_eq!(found, [(2, "a: 1\n"), (7, "text: |\n  ---\nb: 2")]);
    }
}
