//! The sources of the workspace as text: which file is which module, and which file each name that it uses is defined in.
//!
//! Read as a person reads them: comments, texts and what only tests see are left out; a name is followed through `use` and
//! `pub use` to the file that defines it. A macro that names a module in its own body is not followed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A crate and the modules below its root: `["bucketfs", "store", "s3"]`.
pub type Module = Vec<String>;

/// One file of code.
pub struct Source {
    /// From the workspace's root: `src/agent.rs`.
    pub path: String,
    pub module: Module,
    /// Without comments, texts and tests.
    pub code: String,
    imports: BTreeMap<String, Vec<String>>,
    exports: BTreeMap<String, Vec<String>>,
}

impl Source {
    pub fn new(path: &str, module: Module, text: &str) -> Source {
        let code = code_of(text);
        let (mut imports, mut exports) = (BTreeMap::new(), BTreeMap::new());
        for (is_public, tree) in use_lines(&code) {
            for mut way in ways(tree) {
                if way.last().is_some_and(|name| name == "self") {
                    way.pop();
                }
                let Some(name) = way.last().cloned() else { continue };
                if is_public {
                    exports.insert(name.clone(), way.clone());
                }
                imports.insert(name, way);
            }
        }
        Source { path: path.to_owned(), module, code, imports, exports }
    }
}

/// All files of a workspace by their modules.
pub struct Sources(BTreeMap<Module, Source>);

impl Sources {
    /// Those of this workspace: the agent, its crates, and the benchmark.
    pub fn of_workspace() -> Sources {
        let mut all = Vec::new();
        for (name, directory) in crates() {
            let mut files = Vec::new();
            collect(&directory, &mut files);
            for file in files.iter().filter(|file| !is_for_tests(file)) {
                let below = file.strip_prefix(&directory).expect("found there").with_extension("");
                let mut module = vec![name.clone()];
                module.extend(below.iter().map(|part| part.to_string_lossy().into_owned()));
                match module.last().map(String::as_str) {
                    Some("lib") => drop(module.pop()),
                    Some("main") if name != "mapkeeper" => drop(module.pop()),
                    _ => {}
                }
                let path = file.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
                all.push(Source::new(&path, module, &std::fs::read_to_string(file).expect("readable")));
            }
        }
        Sources::from_iter(all)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Source> {
        self.0.values()
    }

    /// The modules, other than its own, that `source` uses a name of, with those names.
    pub fn uses(&self, source: &Source) -> BTreeMap<Module, BTreeSet<String>> {
        let mut found: BTreeMap<Module, BTreeSet<String>> = BTreeMap::new();
        let named = named_in(&source.code).into_iter().map(|way| match source.imports.get(&way[0]) {
            Some(import) if import.len() > 1 => [import, &way[1..]].concat(),
            _ => way,
        });
        for way in named.chain(source.imports.values().cloned()) {
            if let Some(module) = self.defined_in(&source.module, &way, 0)
                && module != source.module
            {
                found.entry(module).or_default().extend(way.last().cloned());
            }
        }
        found
    }

    /// The module that defines what `way` leads to, as `from` sees it; `None` outside of the workspace.
    fn defined_in(&self, from: &Module, way: &[String], followed: usize) -> Option<Module> {
        let has = |module: &Module, name: &String| {
            self.0.contains_key(&[module, std::slice::from_ref(name)].concat())
        };
        let mut rest = way;
        let mut module = match way.first()?.as_str() {
            "crate" => from[..1].to_vec(),
            "self" => from.clone(),
            "super" => from.clone(),
            name if has(from, &name.to_owned()) => from.clone(),
            name if self.0.contains_key(&vec![name.to_owned()]) => vec![name.to_owned()],
            _ => return None,
        };
        if !has(&module, &way[0]) {
            rest = &way[1..];
        }
        if way[0] == "super" {
            module.pop();
            while rest.first().is_some_and(|name| name == "super") {
                module.pop();
                rest = &rest[1..];
            }
        }
        while rest.first().is_some_and(|name| has(&module, name)) {
            module.push(rest[0].clone());
            rest = &rest[1..];
        }
        let source = self.0.get(&module)?;
        match rest.first().and_then(|name| source.exports.get(name)) {
            // More than that is a circle of `pub use`, which the compiler refuses.
            Some(export) if followed < 16 => {
                let further = [export, &rest[1..]].concat();
                self.defined_in(&module, &further, followed + 1).or(Some(module))
            }
            _ => Some(module),
        }
    }

    /// Groups of modules that use each other in a circle, each told by its arrows.
    pub fn circles(&self) -> Vec<Vec<String>> {
        let uses: BTreeMap<&Module, BTreeMap<Module, BTreeSet<String>>> =
            self.0.iter().map(|(module, source)| (module, self.uses(source))).collect();
        let reach: BTreeMap<&Module, BTreeSet<&Module>> =
            uses.keys().map(|module| (*module, reached_from(module, &uses))).collect();
        let mut told: BTreeSet<&Module> = BTreeSet::new();
        let mut circles = Vec::new();
        for module in uses.keys().filter(|module| reach[**module].contains(**module)) {
            if told.contains(*module) {
                continue;
            }
            let circle: Vec<&Module> =
                reach[*module].iter().copied().filter(|other| reach[*other].contains(*module)).collect();
            told.extend(&circle);
            let arrows = circle.iter().flat_map(|from| {
                let within = uses[*from].iter().filter(|(to, _)| circle.contains(to));
                within.map(|(to, names)| {
                    let names: Vec<&str> = names.iter().map(String::as_str).collect();
                    format!("{} -> {}: {}", from.join("/"), to.join("/"), names.join(", "))
                })
            });
            circles.push(arrows.collect());
        }
        circles
    }
}

impl FromIterator<Source> for Sources {
    fn from_iter<T: IntoIterator<Item = Source>>(sources: T) -> Sources {
        Sources(sources.into_iter().map(|source| (source.module.clone(), source)).collect())
    }
}

fn reached_from<'a>(
    start: &Module,
    uses: &'a BTreeMap<&Module, BTreeMap<Module, BTreeSet<String>>>,
) -> BTreeSet<&'a Module> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&Module> = uses[start].keys().collect();
    while let Some(next) = open.pop() {
        if let Some(further) = uses.get(next)
            && reached.insert(next)
        {
            open.extend(further.keys());
        }
    }
    reached
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The crates of the workspace, as code names them, and where each begins.
fn crates() -> Vec<(String, PathBuf)> {
    let mut all = vec![
        ("mapkeeper".to_owned(), root().join("src")),
        ("peers".to_owned(), root().join("benches/peers")),
    ];
    for entry in std::fs::read_dir(root().join("crates")).expect("readable") {
        let path = entry.expect("readable").path();
        let name = path.file_name().expect("it has one").to_string_lossy().replace('-', "_");
        all.push((name, path.join("src")));
    }
    all
}

/// Every `.rs` file below `directory`.
pub fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn is_for_tests(file: &Path) -> bool {
    let below = file.strip_prefix(root()).expect("below the root");
    let name = file.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    name == "tests" || name == "properties" || below.components().any(|part| part.as_os_str() == "tests")
}

fn code_of(text: &str) -> String {
    let mut code = String::new();
    let text = without_tests(text);
    let mut rest = text.as_str();
    while let Some(at) = rest.find(['"', '/', '\'']) {
        code.push_str(&rest[..at]);
        let hit = &rest[at..];
        let skipped = if hit.starts_with("//") {
            hit.find('\n').unwrap_or(hit.len())
        } else if let Some(inside) = hit.strip_prefix('"') {
            let hashes = code.len() - code.trim_end_matches('#').len();
            let end = format!("\"{}", "#".repeat(hashes));
            let is_raw = code.trim_end_matches('#').ends_with('r');
            1 + if is_raw {
                inside.find(&end).map_or(inside.len(), |at| at + end.len())
            } else {
                end_of_text(inside)
            }
        } else if hit.starts_with("'\\") || hit.chars().nth(2) == Some('\'') {
            let closing = hit.char_indices().skip(2).find(|(_, c)| *c == '\'');
            closing.map_or(hit.len(), |(at, _)| at + 1)
        } else {
            code.push_str(&hit[..1]);
            1
        };
        rest = &hit[skipped..];
    }
    code + rest
}

/// Without modules of tests: those in files of their own, wherever they are declared, and one at the end of this file.
fn without_tests(text: &str) -> String {
    let mut parts = text.split("\n#[cfg(test)]\nmod ");
    let mut rest = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once([';', '{']) {
            Some((name, after)) if part[name.len()..].starts_with(';') => rest.push_str(after),
            _ => break,
        }
    }
    rest
}

/// Bytes to the end of a text in quotes that has begun.
fn end_of_text(inside: &str) -> usize {
    let mut escaped = false;
    for (at, c) in inside.char_indices() {
        match c {
            '"' if !escaped => return at + 1,
            _ => escaped = c == '\\' && !escaped,
        }
    }
    inside.len()
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// What each `use` names, and whether others may see it.
fn use_lines(code: &str) -> Vec<(bool, &str)> {
    let statements = code.match_indices("use ").filter(|(at, _)| !code[..*at].ends_with(is_name));
    let whole = statements.map(|(at, marker)| {
        let line = code[..at].rsplit('\n').next().unwrap_or_default();
        let tree = code[at + marker.len()..].split(';').next().unwrap_or_default();
        (line.trim_start().starts_with("pub"), tree)
    });
    whole.collect()
}

/// `a::{b, c::{d, e as f}}` as `a::b`, `a::c::d`, `a::c::e`.
fn ways(tree: &str) -> Vec<Vec<String>> {
    let Some((head, group)) = tree.split_once('{') else {
        let way = tree.split(" as ").next().unwrap_or_default();
        return vec![way.split("::").map(|name| name.trim().to_owned()).collect()];
    };
    let group = group.trim_end().strip_suffix('}').unwrap_or(group);
    let (mut depth, mut from, mut all) = (0, 0, Vec::new());
    for (at, c) in group.char_indices().chain([(group.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !group[from..at].trim().is_empty() {
                    all.extend(ways(&format!("{head}{}", group[from..at].trim())));
                }
                from = at + 1;
            }
            _ => {}
        }
    }
    all
}

/// Every `a::b::c` outside of `use`.
fn named_in(code: &str) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for statement in code.split(';').filter(|statement| !statement.contains("use ")) {
        for word in statement.split(|c: char| !is_name(c) && c != ':').filter(|word| word.contains("::")) {
            let way: Vec<String> = word.split("::").map(str::to_owned).collect();
            if way.iter().all(|name| !name.is_empty()) {
                all.push(way);
            }
        }
    }
    all
}

#[test]
fn uses_are_found_however_they_are_written() {
    let tree = "crate::a::{B, c::{self, D as E}}";
    assert_eq!(
        ways(tree).iter().map(|way| way.join("::")).collect::<Vec<_>>(),
        ["crate::a::B", "crate::a::c::self", "crate::a::c::D"]
    );
    assert_eq!(without_tests("a\n#[cfg(test)]\nmod tests;\nb\n#[cfg(test)]\nmod more {\n c;\n}"), "a\nb");
    let code = code_of("let a = x::y(\"b::c\", 'd', r#\"e::\"f\"#); // g::h\n use i::j; k::<l::m>()");
    assert_eq!(named_in(&code), [["x", "y"], ["l", "m"]].map(|way| way.map(str::to_owned).to_vec()));
}

#[test]
fn a_planted_circle_is_found_through_what_is_handed_on() {
    let source = |path: &str, text: &str| {
        let module = path.split('/').map(str::to_owned).collect();
        Source::new(path, module, text)
    };
    let root = source("a", "pub mod b; mod c; pub use c::Thing;");
    let planted = [
        root,
        source("a/b", "use super::Thing;"),
        source("a/c", "pub struct Thing; fn f() { crate::b::g() }"),
    ];
    let circles = Sources::from_iter(planted).circles();
    assert_eq!(circles, [["a/b -> a/c: Thing", "a/c -> a/b: g"]]);
    let straight = [
        source("a", "pub mod b; mod c; pub use c::Thing;"),
        source("a/b", "use super::Thing;"),
        source("a/c", "pub struct Thing;"),
    ];
    assert_eq!(Sources::from_iter(straight).circles(), Vec::<Vec<String>>::new());
}
