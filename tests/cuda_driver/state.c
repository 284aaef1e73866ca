/* What all calls share: reports, counts, injected failures, handles. */
static int initialised;
static char reports[1 << 16];
static __thread const char *called;
typedef struct call { struct call *next; char name[64]; long count; CUresult error; } call;
static call *calls;

/* reports under the name of the function that was called, and returns the error */
__attribute__((format(printf, 2, 3))) static CUresult report(CUresult error, const char *format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    size_t length = strlen(reports);
    snprintf(reports + length, sizeof reports - length, "%s: %s\n", called, text);
    return error;
}
static call *find_call(const char *name) {
    for (call *c = calls; c; c = c->next) if (!strcmp(c->name, name)) return c;
    call *made = calloc(1, sizeof *made);
    made->next = calls;
    snprintf(made->name, sizeof made->name, "%s", name);
    return calls = made;
}
static const object *find(const void *handle) {
    const object *o = objects;
    while (o && o != handle) o = o->next;
    return o;
}
static int is_old(const void *handle) { return find(handle) && find(handle)->old; }
static int alive(const void *handle, kind kind) { return find(handle) && find(handle)->kind == kind && !find(handle)->dead; }
static int enter(const char *name, need needs) {
    call *call = find_call(called = name);
    call->count++;
    if (call->error) return call->error;
    if (needs >= DRIVER && !initialised) return report(CUDA_ERROR_NOT_INITIALIZED, "called before cuInit");
    if (needs >= CURRENT) {
        if (!depth || !stack[depth - 1]) return report(CUDA_ERROR_INVALID_CONTEXT, "no context is current on this thread");
        if (is_old(stack[depth - 1])) return NOTHING_TO_DO;
        if (!alive(stack[depth - 1], CONTEXT)) return report(CUDA_ERROR_CONTEXT_IS_DESTROYED, "the current context has ended");
        if (sticky) return sticky;
    }
    if (needs >= SAFE && capture_forbids())
        return report(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "not allowed while a stream is captured");
    return CUDA_SUCCESS;
}
static void leave(int *held) { pthread_mutex_unlock(&lock); }

static void *make(kind kind, size_t size) {
    object *made = calloc(1, size);
    *made = (object){ objects, kind, 0, 0, depth ? stack[depth - 1] : NULL };
    return objects = made;
}
