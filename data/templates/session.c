#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/vfio.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef VFIO_DMA_MAP_FLAG_VADDR
#define VFIO_DMA_MAP_FLAG_VADDR (1 << 2)
#endif

#ifndef VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP
#define VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP (1 << 0)
#endif

#ifndef VFIO_DMA_UNMAP_FLAG_ALL
#define VFIO_DMA_UNMAP_FLAG_ALL (1 << 1)
#endif

#ifndef VFIO_DMA_UNMAP_FLAG_VADDR
#define VFIO_DMA_UNMAP_FLAG_VADDR (1 << 2)
#endif

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

/* Print what a call answered, and go on, whatever it is. */
static inline long told(const char *what, long answer) {
    if (answer < 0)
        printf("%s: %s\n", what, strerror(errno));
    else
        printf("%s: %ld\n", what, answer);
    return answer;
}

/* Room for a struct and what stands behind it, all zeros. */
static inline void *argument(void) {
    static _Alignas(16) unsigned char room[1 << 16];
    return memset(room, 0, sizeof room);
}

/* Memory that the kernel can read and not write. */
static inline void *readonly(void) {
    return mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

/* Put memory at an address. */
static inline long memory(uintptr_t at, size_t size, int prot, int flags) {
    return mmap((void *)at, size, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags, -1, 0) == MAP_FAILED ? -1 : 0;
}

/* Write a word to a file of sysfs. */
static inline long put(const char *path, const char *word) {
    int file = open(path, O_WRONLY);
    long answer = file < 0 ? -1 : write(file, word, strlen(word));
    int error = errno;
    if (file >= 0)
        close(file);
    errno = error;
    return answer < 0 ? -1 : 0;
}

/* Set the soft limit of locked memory; the hard one where it is lower. */
static inline long memlock(rlim_t most) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_MEMLOCK, &limit) < 0)
        return -1;
    limit.rlim_cur = most;
    if (limit.rlim_max < most)
        limit.rlim_max = most;
    return setrlimit(RLIMIT_MEMLOCK, &limit);
}

/* Make a capability effective or not; keep it permitted or not. */
static inline long capability(unsigned number, int effective, int permitted) {
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    if (number > 63) {
        errno = EINVAL;
        return -1;
    }
    if (syscall(SYS_capget, &head, data) < 0)
        return -1;
    __u32 bit = 1U << number % 32, *now = &data[number / 32].effective, *may = &data[number / 32].permitted;
    *now = effective ? *now | bit : *now & ~bit;
    *may = permitted ? *may : *may & ~bit;
    return syscall(SYS_capset, &head, data);
}
