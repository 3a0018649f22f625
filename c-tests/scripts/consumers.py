#!/usr/bin/env python3
"""consumers.py REPOSITORY LIBRARY_DIR BUILD_DIR: uses the library in each way in which a C project can get it.

Installs the libraries of LIBRARY_DIR with CMake, moves the installed tree, and builds and runs the projects of
examples/projects on it: find_package, pkg-config, add_subdirectory and FetchContent, each with the shared library and
with the archive. Also tests DESTDIR, another library directory, the components of the installation, the SONAME, and the
messages for a missing component, an unknown one and a version that does not fit. Where cargo-c is installed, `cargo
cinstall` installs too, for minutes; elsewhere only what it needs of Cargo.toml is checked.
"""
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

# Whatever a test leaves in the sources stops a release.
sys.dont_write_bytecode = True
import checks
from checks import check

NAME = "dap_chain_net_srv_vpn"
SAYS = "workers: running, network: backbone, client: not started\n"

def run(*command, **environment):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True,
                          env={**os.environ, **{name: str(value) for name, value in environment.items()}})


def done(what, *command, **environment):
    """Runs a command that must succeed."""
    result = run(*command, **environment)
    return check(result.returncode == 0, what, result.stdout + result.stderr)


def dynamic(kind, file):
    """The entries of a kind in a file's dynamic section, such as the names of the libraries that it needs."""
    return re.findall(rf"\({kind}\).*\[(.*?)\]", run("readelf", "-dW", file).stdout)


class Consumers:
    def __init__(self, repository, libraries, folder):
        self.repository, self.libraries, self.folder = repository, libraries, folder
        self.projects = repository / "examples/projects"
        manifest = (repository / "Cargo.toml").read_text()
        self.version = re.search(r'^version = "(.*?)"', manifest, re.M).group(1)
        self.major = self.version.split(".")[0]
        self.config = folder / "vpn.cfg"
        self.config.write_text(f"[general]\nstate_dir={folder / 'state'}\n[server]\nenabled=false\n")

    def try_program(self, what, program, shared):
        """Runs a built program, and checks that it takes the library from where it should."""
        if not program.exists():
            check(False, f"{what}: {program.name} is built")
            return
        result = run(program, CELLFRAME_VPN_CONFIG=self.config)
        check((result.returncode, result.stdout) == (0, SAYS), f"{what}: {program.name} runs", result)
        needed = [name for name in dynamic("NEEDED", program) if NAME in name]
        wanted = [f"lib{NAME}.so.{self.major}"] if shared else []
        check(needed == wanted, f"{what}: {program.name} needs {wanted}", needed)

    def with_cmake(self, what, project, *options):
        build = self.folder / what
        if done(f"{what}: configures", "cmake", "-S", self.projects / project, "-B", build, *options) \
                and done(f"{what}: builds", "cmake", "--build", build):
            self.try_program(what, build / "hello", shared=True)
            self.try_program(what, build / "hello_static", shared=False)

    def with_pkg_config(self, what, libdir):
        folder = self.folder / what
        folder.mkdir(exist_ok=True)
        if done(f"{what}: builds", "make", "-C", folder, "-f", self.projects / "pkg-config/Makefile",
                f"PKG_CONFIG_PATH={libdir / 'pkgconfig'}"):
            self.try_program(what, folder / "hello", shared=True)
            self.try_program(what, folder / "hello_static", shared=False)
        said = run("pkg-config", "--modversion", NAME, PKG_CONFIG_PATH=libdir / "pkgconfig").stdout.strip()
        check(said == self.version, f"{what}: the version is {self.version}", said)

    def with_cargo_c(self):
        manifest = self.repository / "Cargo.toml"
        said = run("cargo", "metadata", "--no-deps", "--format-version", "1", "--manifest-path", manifest)
        packages = {package["name"]: package for package in json.loads(said.stdout)["packages"]}
        check("capi" in packages[NAME.replace("_", "-")]["features"], "cargo-c: Cargo.toml has the feature it asks for")
        if not shutil.which("cargo-capi"):
            print("no cargo-c: `cargo cinstall` is not run")
            return
        prefix = self.folder / "cargo-c-prefix"
        if done("cargo-c: installs", "cargo", "cinstall", "--release", "--locked", "--no-default-features",
                "--config", self.repository / "build/optimized.toml", "--manifest-path", manifest, "--prefix", prefix):
            self.with_pkg_config("cargo-c", next(prefix.rglob(f"lib{NAME}.a")).parent)

    def refused(self, what, package, message):
        """Configures a project with a find_package that must fail with a message."""
        project = self.folder / "refused"
        shutil.rmtree(project, ignore_errors=True)
        project.mkdir()
        (project / "CMakeLists.txt").write_text(
            f"cmake_minimum_required(VERSION 3.10)\nproject(refused C)\nfind_package({NAME} {package})\n")
        result = run("cmake", "-S", project, "-B", project / "build", f"-DCMAKE_PREFIX_PATH={self.prefix}")
        said = " ".join(result.stderr.split())
        check(result.returncode != 0 and message in said, f"{what} is refused", said)

    def standin(self):
        """Makes a program that, called as CMakeLists.txt calls cargo, puts the libraries where cargo would."""
        cargo = self.folder / "cargo"
        cargo.write_text(f"""#!/bin/sh
case "$*" in
"rustc --lib --crate-type staticlib,cdylib --locked --no-default-features --features embedded,"*" --profile release "*) ;;
*) echo "unexpected: cargo $*" >&2; exit 1 ;;
esac
mkdir -p "$CARGO_TARGET_DIR/release" && cp "{self.libraries}/lib{NAME}".* "$CARGO_TARGET_DIR/release"
""")
        cargo.chmod(0o755)
        return cargo

    def install(self):
        build, first = self.folder / "library", self.folder / "first"
        if not done("the library configures", "cmake", "-S", self.repository, "-B", build,
                    f"-DVPN_LIB_DIR={self.libraries}", "-DCMAKE_INSTALL_PREFIX=/usr") \
                or not done("the library builds", "cmake", "--build", build):
            sys.exit(1)
        # Below DESTDIR and in one component, as a packager does it.
        for component, has, lacks in [
            ("runtime", f"lib{NAME}.so.{self.version}", f"lib{NAME}.a"),
            ("development", f"lib{NAME}.a", f"lib{NAME}.so.{self.major}"),
        ]:
            root = self.folder / component
            done(f"component {component} installs", "cmake", "--install", build, "--component", f"{NAME}_{component}",
                 DESTDIR=root)
            files = {file.name: file for file in (root / "usr").rglob("*")}
            check(has in files and lacks not in files, f"component {component} has {has} and not {lacks}", list(files))
            shutil.rmtree(root, ignore_errors=True)
        # Moved after the installation: nothing in it may name its first place.
        done("the library installs", "cmake", "--install", build, "--prefix", first)
        self.prefix = self.folder / "moved"
        shutil.rmtree(self.prefix, ignore_errors=True)
        first.rename(self.prefix)
        self.libdir = next(self.prefix.rglob(f"lib{NAME}.a")).parent
        texts = [file for file in self.prefix.rglob("*") if file.suffix in (".cmake", ".pc", ".h")]
        named = [file for file in texts if str(self.folder) in file.read_text() or str(self.repository) in file.read_text()]
        check(len(texts) > 40 and not named, "the installed text files name no directory of the build", named)
        library = self.libdir / f"lib{NAME}.so"
        check(os.readlink(library) == f"{library.name}.{self.major}", "the linker's link names the loader's")
        check(os.readlink(f"{library}.{self.major}") == f"{library.name}.{self.version}", "the loader's the library")
        check(dynamic("SONAME", library) == [f"{library.name}.{self.major}"], "the SONAME is that of the link",
              dynamic("SONAME", library))

    def use(self):
        self.with_cmake("find_package", "find_package", f"-DCMAKE_PREFIX_PATH={self.prefix}")
        self.refused("an unknown component", "REQUIRED COMPONENTS kernel", "there is no component 'kernel'")
        self.refused("another major version", f"{int(self.major) + 1}.0 REQUIRED", f"version: {self.version}")

        self.with_pkg_config("pkg-config", self.libdir)

        # The same build of the library serves both, as it serves the installation: once by name, once in cargo's place.
        self.with_cmake("add_subdirectory", "add_subdirectory", f"-DVPN_LIB_DIR={self.libraries}")
        self.with_cmake("fetch_content", "fetch_content", f"-DCARGO={self.standin()}")

        (self.libdir / f"lib{NAME}.a").unlink()
        self.refused("a component that is not installed", "REQUIRED COMPONENTS static", "component 'static' is not installed")
        wrong = run("cmake", "-S", self.repository, "-B", self.folder / "wrong", f"-DVPN_LIB_DIR={self.folder}")
        said = " ".join(wrong.stderr.split())
        check(wrong.returncode != 0 and f"has no lib{NAME}.a" in said, "a directory without the libraries is refused", said)


def main():
    repository, libraries, folder = (pathlib.Path(argument).resolve() for argument in sys.argv[1:])
    for tool in ("cmake", "make", "pkg-config", "readelf"):
        if not shutil.which(tool):
            checks.skip(f"no command '{tool}' (packages cmake, make, pkg-config, binutils)")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    consumers = Consumers(repository, libraries, folder)
    consumers.install()
    consumers.use()
    consumers.with_cargo_c()
    # The archive is large, and the programs that were linked with it are, too.
    if not checks.failures:
        shutil.rmtree(folder)
    checks.end()


if __name__ == "__main__":
    main()
