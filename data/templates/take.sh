modprobe vfio-pci
vfio_take() {
  d="${SYSFS:-/sys}/bus/pci/devices/$1"
  now=$(cat "$d/device" 2>/dev/null)
  [ "${2:-$now}" = "${now:-$2}" ] ||
    { echo "$1 is a $now now: not touched" >&2; return 1; }
  [ -e "$d/iommu_group" ] &&
    [ -d "${SYSFS:-/sys}/bus/pci/drivers/vfio-pci" ] ||
    { echo "$1: no IOMMU group, or no vfio-pci: not touched" >&2; return 1; }
  case "$(readlink "$d/driver")" in */vfio-pci) return 0;; esac
  echo vfio-pci > "$d/driver_override" || return 1
  if [ -e "$d/driver" ] && ! echo "$1" > "$d/driver/unbind"; then
    echo > "$d/driver_override"; return 1
  fi
  echo "$1" > "${SYSFS:-/sys}/bus/pci/drivers_probe"
  now=$(readlink "$d/driver"); now=${now##*/}
  echo "$1 is on ${now:-no driver}"
  [ "$now" = vfio-pci ] && return 0
  echo > "$d/driver_override"
  echo "$1" > "${SYSFS:-/sys}/bus/pci/drivers_probe"
  return 1
}
