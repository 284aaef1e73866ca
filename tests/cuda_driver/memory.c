/* Memory and copies. */

/* A device address is the host's plus this: neither side can use the other's by accident. */
static const uint64_t ON_DEVICE = 1ull << 60;

/* The memory at an address, freed or not: a machine takes no address twice. */
static block *find_block(uint64_t address, size_t size, int on_host) {
    for (object *o = objects; o; o = o->next) {
        block *b = (block *)o;
        if (o->old || !(o->kind == PINNED ? on_host || b->mapped : o->kind == DEVICE && !on_host)) continue;
        uint64_t start = (uint64_t)b->host + (on_host ? 0 : ON_DEVICE);
        if (address >= start && address + size <= start + b->size) return b;
    }
    return NULL;
}
/* Sets the block of a range. 0 where there is none in use, which is reported. */
static int resolve(range *range) {
    range->block = find_block(range->address, range->size, range->on_host);
    if (range->block && !range->block->object.dead) return 1;
    report(0, "%zu bytes at %#llx %s", range->size, (unsigned long long)range->address,
           range->block ? "are used after they were freed" : "are not memory of this driver");
    return 0;
}
static void *host_address(const range *range) { return (void *)(range->address - (range->on_host ? 0 : ON_DEVICE)); }

static CUresult allocate(uint64_t *host, size_t size, kind kind, int mapped) {
    size_t used = size;
    for (object *o = objects; o; o = o->next) if (o->kind == DEVICE && !o->dead) used += ((block *)o)->size;
    if (!size) return report(CUDA_ERROR_INVALID_VALUE, "0 bytes");
    if (kind == DEVICE && used > (size_t)most_bytes) return CUDA_ERROR_OUT_OF_MEMORY;
    block *made = make(kind, sizeof *made);
    made->size = size, made->mapped = mapped;
    made->host = aligned_alloc(512, (size + 511) / 512 * 512);
    memset(made->host, 0xCD, size);         /* what nobody wrote is no plausible number */
    *host = (uint64_t)made->host;
    return CUDA_SUCCESS;
}
static CUresult release(uint64_t address, kind kind) {
    range memory = { address, 1, .on_host = kind == PINNED };
    block *found = find_block(address, 1, kind == PINNED);
    if (!found || found->object.dead || found->object.kind != kind || host_address(&memory) != found->host)
        return report(CUDA_ERROR_INVALID_VALUE, "%#llx is not memory that is in use", (unsigned long long)address);
    if (is_pending(found)) {
        report(0, "%zu bytes are freed while work on them is pending", found->size);
        finish_all();
    }
    found->object.dead = 1;
    memset(found->host, 0xDD, found->size);
    return CUDA_SUCCESS;
}
EXPORT CUresult cuMemAlloc(CUdeviceptr *address, size_t size) {
    ENTER(SAFE);
    uint64_t host;
    CUresult error = allocate(&host, size, DEVICE, 0);
    if (!error) *address = host + ON_DEVICE;
    return error;
}
EXPORT CUresult cuMemHostAlloc(void **host, size_t size, unsigned flags) {
    ENTER(SAFE);
    return allocate((uint64_t *)host, size, PINNED, flags & CU_MEMHOSTALLOC_DEVICEMAP);
}
EXPORT CUresult cuMemFree(CUdeviceptr address) { ENTER(SAFE); return release(address, DEVICE); }
EXPORT CUresult cuMemFreeHost(void *host) { ENTER(SAFE); return release((uint64_t)host, PINNED); }
EXPORT CUresult cuMemHostGetDevicePointer(CUdeviceptr *address, void *host, unsigned flags) {
    ENTER(CURRENT);
    block *found = find_block((uint64_t)host, 1, 1);
    if (!found || found->object.dead || !found->mapped)
        return report(CUDA_ERROR_INVALID_VALUE, "the memory is not pinned with CU_MEMHOSTALLOC_DEVICEMAP");
    *address = (uint64_t)host + ON_DEVICE;
    return CUDA_SUCCESS;
}
/* Where a test finds the bytes at a device address; NULL where there are none in use. */
EXPORT void *testcuda_host(uint64_t address, size_t size) {
    LOCKED;
    block *found = find_block(address, size, 0);
    return found && !found->object.dead ? (void *)(address - ON_DEVICE) : NULL;
}

static CUresult copy(range to, range from, CUstream stream) {
    op work = { .work = COPY, .count = 2, .ranges = { to, from } };
    return issue(stream, &work);
}
EXPORT CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void *from, size_t size, CUstream stream) {
    ENTER(CURRENT);
    return copy((range){ to, size, .write = 1 }, (range){ (uint64_t)from, size, .on_host = 1 }, stream);
}
EXPORT CUresult cuMemcpyDtoHAsync(void *to, CUdeviceptr from, size_t size, CUstream stream) {
    ENTER(CURRENT);
    return copy((range){ (uint64_t)to, size, .write = 1, .on_host = 1 }, (range){ from, size }, stream);
}
