/* Cubins: which parameters, threads and memory a kernel was compiled for. Launches are checked, recorded and not run. */

/* attributes of a section .nv.info.KERNEL, as cuobjdump names them */
enum { EIATTR_REQNTID = 0x10, EIATTR_KPARAM_INFO = 0x17, EIATTR_CBANK_PARAM_SIZE = 0x19 };
enum { EIFMT_SVAL = 0x04, NV_ABI_OF_CUDA_13 = 8, FREE_SHARED = 48 * 1024, MOST_SHARED = 163 * 1024 };
static launch last;

EXPORT CUresult cuModuleLoadData(CUmodule *module, const void *image) {
    ENTER(SAFE);
    const Elf64_Ehdr *header = image;
    if (memcmp(header->e_ident, ELFMAG, SELFMAG) || header->e_machine != EM_CUDA)
        return report(CUDA_ERROR_INVALID_IMAGE, "the image is no cubin");
    /* the compute capability: bits 0 to 7 of the flags, and bits 8 to 15 as CUDA 13 writes it */
    int of = header->e_flags >> (header->e_ident[EI_ABIVERSION] >= NV_ABI_OF_CUDA_13 ? 8 : 0) & 0xFF;
    if (of / 10 != capability / 10 || of % 10 > capability % 10) return CUDA_ERROR_NO_BINARY_FOR_GPU;
    size_t sections = header->e_shoff + (size_t)header->e_shnum * header->e_shentsize;
    size_t programs = header->e_phoff + (size_t)header->e_phnum * header->e_phentsize;
    size_t size = sections > programs ? sections : programs;
    *module = make(MODULE, sizeof **module);
    (*module)->image = memcpy(malloc(size), image, size);
    return CUDA_SUCCESS;
}
EXPORT CUresult cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned count, CUjit_option *options, void **values) {
    return cuModuleLoadData(module, image);
}
DESTROY(cuModuleUnload, CUmodule, MODULE, CURRENT)

static const Elf64_Shdr *section(const char *image, const char *prefix, const char *name) {
    const Elf64_Ehdr *header = (const void *)image;
    const Elf64_Shdr *all = (const void *)(image + header->e_shoff);
    for (int i = 0; i < header->e_shnum; i++) {
        const char *found = image + all[header->e_shstrndx].sh_offset + all[i].sh_name;
        if (!strncmp(found, prefix, strlen(prefix)) && !strcmp(found + strlen(prefix), name)) return &all[i];
    }
    return NULL;
}
static uint32_t word(const char *at) { uint32_t w; memcpy(&w, at, sizeof w); return w; }
static uint16_t half(const char *at) { return word(at) & 0xFFFF; }
/* Reads what launches of the kernel must have. Each entry: format, attribute, and 2 bytes of value or size. */
static void read_info(CUfunction function, const char *info, size_t size) {
    for (const char *at = info; at + 4 <= info + size;) {
        int attribute = (unsigned char)at[1], value = half(at + 2);
        const char *data = at + 4;
        if (attribute == EIATTR_CBANK_PARAM_SIZE) function->bytes = value;
        if (attribute == EIATTR_KPARAM_INFO) {      /* index, ordinal, offset, and the size above 18 bits */
            int ordinal = half(data + 4);
            function->parameters[ordinal].offset = half(data + 6);
            function->parameters[ordinal].size = word(data + 8) >> 18;
            function->count++;
        }
        if (attribute == EIATTR_REQNTID) for (int i = 0; i < 3; i++) function->threads[i] = word(data + 4 * i);
        at = data + (at[0] == EIFMT_SVAL ? value : 0);
    }
}
EXPORT CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) {
    ENTER(CURRENT);
    CHECK(module, MODULE);
    const Elf64_Shdr *info = section(module->image, ".nv.info.", name);
    if (!info || !section(module->image, ".text.", name)) return CUDA_ERROR_NOT_FOUND;
    CUfunction made = *function = make(FUNCTION, sizeof *made);
    made->module = module;
    made->most_shared = FREE_SHARED;
    snprintf(made->name, sizeof made->name, "%s", name);
    read_info(made, module->image + info->sh_offset, info->sh_size);
    return CUDA_SUCCESS;
}
EXPORT CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute attribute, int value) {
    ENTER(CURRENT);
    CHECK(function, FUNCTION);
    if (attribute != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES || value < 0 || value > MOST_SHARED)
        return report(CUDA_ERROR_INVALID_VALUE, "attribute %d cannot be %d", (int)attribute, value);
    function->most_shared = value;
    return CUDA_SUCCESS;
}
/* pycuda still calls it before a launch that names the threads again */
EXPORT CUresult cuFuncSetBlockShape(CUfunction function, int x, int y, int z) { return CUDA_SUCCESS; }
/* Takes the arguments from either form of a launch. 0 where their size is not the kernel's. */
static int collect(const struct CUfunc_st *f, void **values, void **extra, char *into, size_t *size) {
    *size = f->bytes;
    for (int i = 0; values && i < f->count; i++)
        memcpy(into + f->parameters[i].offset, values[i], f->parameters[i].size);
    const void *buffer = NULL;
    for (; extra && *extra != CU_LAUNCH_PARAM_END; extra += 2) {
        if (*extra == CU_LAUNCH_PARAM_BUFFER_POINTER) buffer = extra[1];
        if (*extra == CU_LAUNCH_PARAM_BUFFER_SIZE) *size = *(size_t *)extra[1];
    }
    if (buffer && *size == (size_t)f->bytes) memcpy(into, buffer, *size);
    return *size == (size_t)f->bytes && (values || buffer || !f->bytes);
}
EXPORT CUresult cuLaunchKernel(CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                               unsigned bz, unsigned shared, CUstream stream, void **values, void **extra) {
    ENTER(CURRENT);
    CHECK(function, FUNCTION);
    CHECK(function->module, MODULE);
    const int *threads = function->threads;
    size_t size;
    launch made = { .grid = { gx, gy, gz }, .block = { bx, by, bz }, .shared = shared, .bytes = function->bytes };
    memcpy(made.name, function->name, sizeof made.name);
    if (!collect(function, values, extra, (char *)made.arguments, &size))
        return report(CUDA_ERROR_INVALID_VALUE, "%s takes %d bytes of arguments, not %zu", made.name, made.bytes, size);
    if (!gx || !gy || !gz || gx > 2147483647u || gy > 65535 || gz > 65535)
        return report(CUDA_ERROR_INVALID_VALUE, "grid %u x %u x %u", gx, gy, gz);
    if (threads[0] && memcmp(threads, made.block, sizeof made.block))
        return report(CUDA_ERROR_INVALID_VALUE, "%s was compiled for %d threads, not %u", made.name, threads[0], bx);
    if ((int)shared > function->most_shared)
        return report(CUDA_ERROR_INVALID_VALUE, "%u bytes of shared memory, not at most %d", shared, function->most_shared);
    op work = { .work = KERNEL };
    /* the kernels here take pointers alone; whether it writes is not known */
    for (int i = 0; i < function->count && work.count < RANGES; i++) {
        uint64_t address;
        memcpy(&address, (char *)made.arguments + function->parameters[i].offset, sizeof address);
        if (address) work.ranges[work.count++] = (range){ address, 1, 0, 0, NULL };
    }
    made.stream = stream, made.count = last.count + 1;
    last = made;
    return issue(stream, &work);
}
EXPORT void testcuda_launched(launch *into) { *into = last; }
