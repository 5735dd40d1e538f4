# Sourced by the bash in which MLflow starts an entry point.
_conda_front=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
conda() {
    "$_conda_front/bin/conda" "$@" || return
    if [ "${1-}" = activate ]; then
        . "${_conda_front%/scripts/conda-front}/.venv/bin/activate"
    fi
}
