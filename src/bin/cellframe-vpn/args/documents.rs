//! `completions`, and `man-pages`, with which packages are made.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

pub(super) const COMPLETIONS_HELP: &str = "\
Examples:
  cellframe-vpn completions bash > ~/.local/share/bash-completion/completions/cellframe-vpn
  cellframe-vpn completions zsh > ~/.zfunc/_cellframe-vpn
  cellframe-vpn completions fish > ~/.config/fish/completions/cellframe-vpn.fish

Exit codes: 0 printed, 2 no such shell, 7 the output cannot be written";

#[derive(Args, Debug)]
pub(crate) struct CompletionsOptions {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

#[derive(Args, Debug)]
pub(crate) struct ManPagesOptions {
    /// The directory to write to
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
}
