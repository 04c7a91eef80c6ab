use super::*;
use crate::progress::Silent;

/// A folder with something in the place of an archive.
fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("images of today.tar");
    std::fs::write(&archive, b"images").unwrap();
    (folder, archive)
}

fn installer() -> Installer {
    Installer::new(vec![Executable::own().unwrap()]).unwrap()
}

fn write(archive: &Path) -> Vec<PathBuf> {
    let digest = Digest::sha256(b"index");
    let files = [archive.to_path_buf()];
    installer()
        .write(&files, &digest, &Silent, &Interrupt::default())
        .unwrap()
}

#[test]
fn an_installer_of_the_same_archive_is_replaced() {
    let (folder, archive) = folder();
    installer().check_place(&archive).unwrap();
    let written = write(&archive);
    installer().check_place(&archive).unwrap();
    assert_eq!(write(&archive), written);
    let text = std::fs::read_to_string(folder.path().join(SUMS)).unwrap();
    let names: Vec<&str> = text.lines().filter_map(|line| line.get(66..)).collect();
    let own = Executable::own().unwrap().name();
    assert_eq!(names, ["images of today.tar", &own, "install.sh"]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 4);
}

#[test]
fn the_script_of_another_content_of_the_archive_is_outdated() {
    let (folder, archive) = folder();
    let (digest, other) = (Digest::sha256(b"index"), Digest::sha256(b"other"));
    let whole = [archive.clone()];
    let parts = [folder.path().join("images of today.tar.001")];
    let script = folder.path().join(SCRIPT);
    assert_eq!(outdated(&archive, &whole, &digest).unwrap(), None);
    write(&archive);
    assert_eq!(outdated(&archive, &whole, &digest).unwrap(), None);
    assert_eq!(outdated(&archive, &whole, &other).unwrap(), Some(script.clone()));
    assert_eq!(outdated(&archive, &parts, &digest).unwrap(), Some(script.clone()));
    // One of another archive, or of something else.
    let neighbour = folder.path().join("other.tar");
    assert_eq!(
        outdated(&neighbour, std::slice::from_ref(&neighbour), &other).unwrap(),
        None
    );
    std::fs::write(&script, "#!/bin/sh\n").unwrap();
    assert_eq!(outdated(&archive, &whole, &other).unwrap(), None);
}

#[test]
fn the_size_is_not_less_than_what_is_written() {
    let (_folder, archive) = folder();
    let written = write(&archive);
    let sizes = written.iter().map(|path| std::fs::metadata(path).unwrap().len());
    assert!(installer().size().unwrap() >= sizes.sum());
}

#[test]
fn files_of_others_are_not_replaced() {
    let (folder, archive) = folder();
    let other = folder.path().join("other.tar");
    std::fs::write(&other, b"other").unwrap();
    write(&other);
    for name in [SUMS, SCRIPT] {
        let error = installer().check_place(&archive).unwrap_err().to_string();
        let rest = error
            .split_once("/install.sh")
            .or(error.split_once("/SHA256SUMS"));
        assert_eq!(
            rest.unwrap().1,
            " is there, and does not belong to this archive",
            "{name}"
        );
        std::fs::remove_file(folder.path().join(if name == SUMS { SCRIPT } else { SUMS })).unwrap();
    }
    installer().check_place(&archive).unwrap();
    let executable = folder.path().join(installer().executables[0].name());
    std::fs::write(&executable, "#!/bin/sh\n").unwrap();
    installer().check_place(&archive).unwrap_err();
    std::fs::remove_file(&executable).unwrap();
    std::fs::create_dir(&executable).unwrap();
    installer().check_place(&archive).unwrap_err();
}

#[test]
fn a_name_that_a_list_of_digests_cannot_have_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a\nb.tar", "a\\b.tar"] {
        installer().check_place(&folder.path().join(name)).unwrap_err();
    }
}

#[test]
fn an_archive_with_the_name_of_a_file_of_the_installer_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let executable = installer().executables[0].name();
    for name in [SCRIPT, "Install.SH", SUMS, &executable] {
        let error = installer().check_place(&folder.path().join(name)).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with(" is the name of a file of the installer"),
            "{error}"
        );
    }
    installer()
        .check_place(&folder.path().join("install.sh.tar"))
        .unwrap();
}

#[test]
fn two_executables_for_one_machine_are_refused() {
    let two = vec![Executable::own().unwrap(), Executable::own().unwrap()];
    assert!(
        Installer::new(two)
            .unwrap_err()
            .to_string()
            .contains(" are both for linux/")
    );
}
