vfio_give_back() {
  d="${SYSFS:-/sys}/bus/pci/devices/$1"
  on=$(readlink "$d/driver"); on=${on##*/}
  [ "$on" = vfio-pci ] || [ "$(cat "$d/driver_override")" = vfio-pci ] ||
    return 0
  echo > "$d/driver_override" || return 1
  [ "$on" != vfio-pci ] || echo "$1" > "$d/driver/unbind" || return 1
  [ "$2" = none ] || echo "$1" > "${SYSFS:-/sys}/bus/pci/drivers_probe"
  now=$(readlink "$d/driver"); now=${now##*/}
  echo "$1 is on ${now:-no driver}"
}
