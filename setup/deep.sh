#!/bin/sh
# Puts torch and Horovod into .venv, after `make setup`, for the deep models; a second run finds it done.
# Horovod is built from its source: gloo for CPUs and, on Linux x86_64, NCCL for NVIDIA GPUs, in one wheel. The CUDA
# compiler comes as packages, for the build only; no CUDA toolkit and no GPU are needed. The wheel is kept.
# Exit 2: the machine lacks something; the message says what to do.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."
. setup/shared.sh

stamp=$venv/deep-stamp
lock=requirements-deep.lock
horovod=0.28.1
horovod_sha256=92a43f5a94c43907a56805bad15f19700c62ffc83b7ca483f9e104e229f67ef0
setuptools=79.0.1 # the last line that builds it; not for .venv
recipe=1          # counts the ways in which the wheel was built: a new one is not taken for an old one
# Turing, Ampere, Hopper; newer GPUs compile the last one's intermediate code.
gpu_kinds=75,80,90

pin() { sed -n "s/^$1==\([^ ;]*\).*/\1/p" "$lock"; }

# The CUDA compiler must be of the version of the CUDA runtime that torch brings.
find_flavour() {
    case "$(uname -s) $(uname -m)" in
        "Linux x86_64") cuda=$(pin nvidia-cuda-runtime) ;;
        *) cuda='' ;;
    esac
    python_tag=$("$py" -c 'import sys; print(sys.implementation.cache_tag)')
    kept=$cache/horovod/$python_tag-$(uname -m)-torch$(pin torch)-horovod$horovod-${cuda:+cuda}${cuda:-cpu}-$recipe
}

find_wheel() {
    for wheel in "$kept"/horovod-*.whl; do
        if [ -f "$wheel" ]; then return; fi
    done
    return 1
}

# --- building the wheel -----------------------------------------------------------------------

find_missing() {
    missing=''
    printf '#include <concepts>\nint main() {}\n' >"$work/try.cc"
    "${CXX:-c++}" -std=c++20 -fsyntax-only "$work/try.cc" 2>/dev/null || missing="$missing compiler"
    for tool in cmake make; do
        command -v $tool >/dev/null 2>&1 || missing="$missing $tool"
    done
    "$py" -c 'import os, sys, sysconfig as s; sys.exit(not os.path.exists(s.get_path("include") + "/Python.h"))' ||
        missing="$missing headers"
    [ -z "$missing" ]
}

find_compiler() {
    if find_missing; then return; fi
    if command -v apt-get >/dev/null 2>&1; then
        headers=$("$py" -c 'import sys; print("python%d.%d-dev" % sys.version_info[:2])')
        install="apt-get install -y $(package g++ cmake make "$headers")"
        if [ "$(id -u)" = 0 ]; then
            say "missing:$missing. Installing $(package g++ cmake make "$headers")"
            # shellcheck disable=SC2046
            apt_install $(package g++ cmake make "$headers") || true # what is missing still is said below
            if find_missing; then return; fi
        fi
        install="sudo $install"
    elif command -v brew >/dev/null 2>&1; then
        install="brew install $(package llvm cmake make python)"
    elif command -v dnf >/dev/null 2>&1; then
        install="sudo dnf install -y $(package gcc-c++ cmake make python3-devel)"
    else
        install="(by your system's own way)"
    fi
    stop "to build Horovod, this is missing:$missing (compiler: ${CXX:-c++} for C++20; headers: Python.h)." \
        "This installs it:" "    $install"
}

# Packages for what is missing: of a compiler, cmake, make, Python's headers, in this order.
package() {
    packages=''
    for thing in compiler cmake make headers; do
        case "$missing " in *" $thing "*) packages="$packages $1" ;; esac
        shift
    done
    printf '%s' "${packages# }"
}

# Into folders of their own: what builds must not become part of .venv.
fetch() {
    folder=$1
    shift
    if [ -x "$venv/bin/uv" ]; then
        uv_install -q --target "$folder" "$@"
    else
        pip install -q --no-deps --target "$folder" "$@"
    fi
}

fetch_sources() {
    fetch "$work/tools" "setuptools==$setuptools"
    printf 'horovod==%s --hash=sha256:%s\n' "$horovod" "$horovod_sha256" >"$work/source.txt"
    PYTHONPATH=$work/tools pip download -q --no-deps --no-binary :all: --no-build-isolation --require-hashes \
        -d "$work" -r "$work/source.txt"
    tar -xzf "$work/horovod-$horovod.tar.gz" -C "$work"
    if [ -n "$cuda" ]; then
        fetch "$work/cuda" "nvidia-cuda-nvcc==$cuda" "nvidia-cuda-crt==$cuda" "nvidia-nvvm==$cuda" \
            "nvidia-cuda-runtime==$cuda" "nvidia-cuda-cccl==$cuda"
    fi
}

patch() {
    sed "$2" "$source/$1" >"$work/patched"
    if cmp -s "$work/patched" "$source/$1"; then stop "Horovod $horovod: $1 is not as expected: $2"; fi
    cat "$work/patched" >"$source/$1"
}

# torch's headers need C++20, and gloo's own flag must not take it back. No folder of the build stays in the
# libraries as a place to load from; debug symbols are not made; libcuda.so without a number is not everywhere.
patch_sources() {
    patch CMakeLists.txt 's/CMAKE_CXX_STANDARD 14/CMAKE_CXX_STANDARD 20/'
    patch CMakeLists.txt 's/^project(horovod CXX)$/&\
set(CMAKE_SKIP_RPATH ON)/'
    patch horovod/torch/CMakeLists.txt 's/CMAKE_CXX_STANDARD 14/CMAKE_CXX_STANDARD 20/'
    patch horovod/torch/cuda_util.cc 's/dlopen("libcuda.so", /dlopen("libcuda.so.1", /'
    patch third_party/gloo/CMakeLists.txt 's/-std=c++11/-std=c++17/'
    patch setup.py "s/'RelWithDebInfo'/'Release'/"
}

build() (
    # Neither make nor cmake can do with a space in a path; a link has none.
    ln -s "$PWD/$venv" "$work/venv"
    export PATH="$work/venv/bin:$PATH" PYTHONPATH="$work/tools"
    MAKEFLAGS=-j$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
    export MAKEFLAGS CMAKE_POLICY_VERSION_MINIMUM=3.5
    # By default the machine's own CPU decides what the wheel may use; it has to run on others too.
    export HOROVOD_BUILD_ARCH_FLAGS=-mtune=generic
    export HOROVOD_WITH_PYTORCH=1 HOROVOD_WITHOUT_TENSORFLOW=1 HOROVOD_WITHOUT_MXNET=1 HOROVOD_WITHOUT_MPI=1
    export HOROVOD_WITH_GLOO=1 HOROVOD_CPU_OPERATIONS=GLOO
    if [ -n "$cuda" ]; then with_nccl; fi
    cd "$source"
    python setup.py bdist_wheel --dist-dir "$work/wheel"
)

# A CUDA home and an NCCL home, made of links to what torch brings, in the shape that Horovod's build looks for.
with_nccl() {
    CUDA_HOME=$(echo "$work"/cuda/nvidia/cu*)
    ln -sfn lib "$CUDA_HOME/lib64"
    (cd "$CUDA_HOME/lib" && ln -sfn libcudart.so.* libcudart.so)
    nccl=$(python -c 'import sysconfig; print(sysconfig.get_path("purelib") + "/nvidia/nccl")')
    mkdir -p "$work/nccl/lib"
    ln -sfn "$nccl/include" "$work/nccl/include"
    ln -sfn "$nccl/lib/libnccl.so.2" "$work/nccl/lib/libnccl.so"
    export CUDA_HOME HOROVOD_CUDA_HOME="$CUDA_HOME" HOROVOD_NCCL_HOME="$work/nccl" HOROVOD_NCCL_LINK=SHARED
    export HOROVOD_GPU=CUDA HOROVOD_GPU_OPERATIONS=NCCL HOROVOD_BUILD_CUDA_CC_LIST=$gpu_kinds HOROVOD_WITHOUT_NVTX=1
    export LDFLAGS=-Wl,--strip-debug
}

build_wheel() {
    wait "$fetching" || stop "the sources of Horovod could not be had, for the reason above (is there a network?)"
    fetching=''
    say "building Horovod $horovod for torch $(pin torch), ${cuda:+gloo and NCCL, CUDA }${cuda:-gloo only: no GPUs}" \
        "(about three minutes on two cores, once)"
    source=$work/horovod-$horovod
    patch_sources
    mkdir -p "$kept"
    if ! build >"$kept/build.log" 2>&1; then
        tail -n 20 "$kept/build.log" >&2
        stop "Horovod could not be built, for the reason above; all of it is in $kept/build.log"
    fi
    # Renamed when it is whole: another checkout may look for it now.
    for built in "$work"/wheel/horovod-*.whl; do
        cp "$built" "$kept/$$.part"
        mv "$kept/$$.part" "$kept/${built##*/}"
    done
    find_wheel
}

clean_up() {
    if [ -n "$fetching" ]; then kill "$fetching" 2>/dev/null || true; fi
    rm -rf "$work"
}

started=$(date +%s)
[ -x "$py" ] || stop "$venv is missing: run make setup"
# One line a fact: the files that this is made from, the interpreter, the place.
wanted=$(cat $lock setup/deep.sh setup/shared.sh setup/two_processes.py | cksum && identity "$py" && pwd)
if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then exit 0; fi

rm -f "$stamp"
fetching=''
work=$(mktemp -d "${TMPDIR:-/tmp}/clickmill.XXXXXX")
trap clean_up EXIT
trap 'exit 130' HUP INT TERM
find_flavour
if ! find_wheel; then
    find_compiler
    fetch_sources &
    fetching=$!
fi
say "installing torch $(pin torch)"
install_lock $lock
find_wheel || build_wheel
if [ -x "$venv/bin/uv" ]; then
    uv_install -q --offline --reinstall "$wheel"
else
    pip install -q --no-deps --no-index --force-reinstall "$wheel"
fi
# Modules are compiled on the way, also where the user's settings would not keep that.
said=$(PYTHONDONTWRITEBYTECODE='' "$py" setup/two_processes.py ${cuda:+NCCL}) ||
    stop "Horovod does not work here, for the reason above"
say "$said"
printf '%s\n' "$wanted" >"$stamp"
say "torch and Horovod are done in $(($(date +%s) - started)) s"
