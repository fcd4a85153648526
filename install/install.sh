#!/usr/bin/env bash
# Puts m2dao below a folder, ready to serve and to fit without a package registry: on a machine of a cluster, or in an
# image (Dockerfile beside this file). Needs a Debian or Ubuntu with Python 3.11.
#
#     install/install.sh PREFIX [STEP...]
#
# Steps, all of them in this order when none is named; each may be run again:
#     system       the libraries of Debian that wheels do not bring; as root, else they must be there
#     packages     PREFIX/venv: this checkout and what serving and fitting need, in the versions of requirements.lock
#     gsplat       PREFIX/extensions: its CUDA kernels, where nvcc is and PyTorch is a CUDA build
#     assets       PREFIX/assets: the model files, copied from $M2DAO_ASSETS_DIR where that is set
#     kernels      PREFIX/kernels: the machine code for this processor
#     environment  PREFIX/environment: the variables that lead to all this, one NAME=value a line
#
# TORCH_INDEX_URL names an index with a CUDA build of PyTorch, such as https://download.pytorch.org/whl/cu130; the lock
# may hold the CPU build. TORCH_CUDA_ARCH_LIST says for which GPUs gsplat is built, when none is in this machine.
set -euo pipefail
source=$(cd "$(dirname "$0")/.." && pwd)
steps=(system packages gsplat assets kernels environment)
[ $# -ge 1 ] || { sed -n '2,16s/^# \{0,1\}//p' "$0" >&2; exit 2; }
mkdir -p "$1"
prefix=$(cd "$1" && pwd)
shift
python=$prefix/venv/bin/python
export PATH=$prefix/venv/bin:$PATH  # PyTorch finds ninja there, with which it builds

variables() {
    echo "PATH=$prefix/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    echo "M2DAO_ASSETS_DIR=$prefix/assets"
    echo "NUMBA_CACHE_DIR=$prefix/kernels"
    echo "TORCH_EXTENSIONS_DIR=$prefix/extensions"
}

step_system() {
    # OpenCV's windows, which nobody opens, need libGL and libglib; the probes of KubeRay need wget; ray up needs rsync.
    # A machine that has just started may be updating itself: wait for that.
    if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
        apt-get -o DPkg::Lock::Timeout=300 update -qq
        DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends \
            ca-certificates libgl1 libglib2.0-0 libsm6 libxext6 python3.11-venv rsync wget > /dev/null
        rm -rf /var/lib/apt/lists/*
    fi
}

step_packages() {
    # A venv without pip is what is left where Debian's python3.11-venv was missing.
    "$python" -m pip --version > /dev/null 2>&1 || python3.11 -m venv --clear "$prefix/venv"
    pip() { "$python" -m pip "$1" --quiet --disable-pip-version-check --constraint "$source/requirements.lock" "${@:2}"; }
    local copy extras=fit,whisper  # neither the services of one machine nor the demo
    command -v nvcc > /dev/null && extras+=,gpu
    copy=$(mktemp -d)  # setuptools writes beside what it builds
    cp -R "$source"/{pyproject.toml,README.md,m2dao,cluster,train_jobs,serve_apps} "$copy"
    pip install setuptools
    if [ -n "${TORCH_INDEX_URL:-}" ]; then
        pip install --index-url "$TORCH_INDEX_URL" torch
    fi
    pip install --no-build-isolation "$copy[$extras]"
    rm -rf "$copy"
}

step_gsplat() {
    if ! command -v nvcc > /dev/null; then
        echo "gsplat: not built, there is no nvcc; this installation renders by the CPU"
    elif [ "$("$python" -c 'import torch; print(torch.version.cuda is not None)')" = False ]; then
        echo "gsplat: not built, PyTorch is a CPU build; set TORCH_INDEX_URL to render on GPUs"
    else
        mkdir -p "$prefix/extensions"
        TORCH_EXTENSIONS_DIR=$prefix/extensions "$python" -c \
            'from gsplat.cuda import _backend; assert _backend._C is not None, "gsplat has no kernels"'
    fi
}

step_assets() {
    mkdir -p "$prefix/assets"
    if [ -n "${M2DAO_ASSETS_DIR:-}" ] && ! [ "$M2DAO_ASSETS_DIR" -ef "$prefix/assets" ]; then
        cp -R "$M2DAO_ASSETS_DIR/." "$prefix/assets"
    fi
    env -u M2DAO_ASSETS_DIR "$prefix/venv/bin/m2dao" assets fetch --into "$prefix/assets" > /dev/null
    M2DAO_ASSETS_DIR=$prefix/assets "$prefix/venv/bin/m2dao" assets verify > /dev/null
}

step_kernels() {
    mkdir -p "$prefix/kernels"
    NUMBA_CACHE_DIR=$prefix/kernels "$prefix/venv/bin/m2dao" assets compile
}

step_environment() {
    variables > "$prefix/environment"
}

[ $# -gt 0 ] || set -- "${steps[@]}"
for step in "$@"; do
    [[ " ${steps[*]} " == *" $step "* ]] || { echo "install.sh: unknown step $step, one of ${steps[*]}" >&2; exit 2; }
    echo "== $step"
    "step_$step"
done
