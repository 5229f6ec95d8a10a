//! Calls the macros.

pub fn report() -> Vec<String> {
    vec![
        format!("user.notes={}", mac::read_file!("data/notes.txt")),
        format!("user.beyond={}", mac::read_file!("../assets/outside.txt")),
        format!("user.files={}", mac::list_files!("data")),
        format!("user.env={}", mac::read_env!("MAC_ENV")),
        format!("user.tracked={:?}", mac::tracked_env!("MAC_TRACKED")),
        format!("user.constant={}", mac::constant!()),
    ]
}
