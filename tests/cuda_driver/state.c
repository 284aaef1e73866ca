/* What all calls share: the lock, handles, reports, counts, injected failures; and what tests ask and set. */
#include "driver.h"
#include <stdarg.h>
#include <stdio.h>

pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
CUresult sticky;                            /* after an error on the GPU every call returns it */
object *objects;
long unified, capability, most_bytes;
__thread CUcontext stack[STACK];
__thread int depth;

static int initialised;
static char reports[1 << 16];
static size_t reported;
typedef struct count { struct count *next; const char *name; long calls; } count;
static count *counts;
static struct { char name[64]; CUresult error; } faults[16];

void report(const char *where, const char *format, ...) {
    va_list arguments;
    size_t room = sizeof reports - reported;
    int n = snprintf(reports + reported, room, "%s: ", where);
    if (n > 0 && (size_t)n < room) {
        va_start(arguments, format);
        int m = vsnprintf(reports + reported + n, room - n, format, arguments);
        va_end(arguments);
        if (m > 0 && (size_t)(n + m + 1) < room) {
            reported += n + m;
            reports[reported++] = '\n';
        }
    }
    reports[reported] = 0;
}

int enter(const char *name, need needs) {
    count *c = counts;
    while (c && strcmp(c->name, name)) c = c->next;
    if (!c) {
        c = calloc(1, sizeof *c);
        *c = (count){ counts, name, 0 };
        counts = c;
    }
    c->calls++;
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        if (faults[i].error && !strcmp(faults[i].name, name)) return faults[i].error;
    if (needs >= DRIVER && !initialised) {
        report(name, "called before cuInit");
        return CUDA_ERROR_NOT_INITIALIZED;
    }
    if (needs >= CURRENT) {
        if (!depth || !stack[depth - 1]) {
            report(name, "no context is current on this thread");
            return CUDA_ERROR_INVALID_CONTEXT;
        }
        if (is_old(stack[depth - 1])) return NOTHING_TO_DO;
        if (!alive(stack[depth - 1], CONTEXT)) {
            report(name, "the current context has ended");
            return CUDA_ERROR_CONTEXT_IS_DESTROYED;
        }
        if (sticky) return sticky;
    }
    if (needs >= SAFE && capture_forbids()) {
        report(name, "not allowed while a stream is captured");
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    return CUDA_SUCCESS;
}
void leave(int *held) { (void)held; pthread_mutex_unlock(&lock); }

void *make(kind kind, size_t size) {
    object *made = calloc(1, size);
    *made = (object){ objects, kind, 0, 0, depth ? stack[depth - 1] : NULL };
    return objects = made;
}
int alive(const void *handle, kind kind) {
    for (object *o = objects; o; o = o->next) if (o == handle) return o->kind == kind && !o->dead;
    return 0;
}
int is_old(const void *handle) {
    for (object *o = objects; o; o = o->next) if (o == handle) return o->old;
    return 0;
}
void end_context(CUcontext context) {
    static const char *names[KINDS] = { [STREAM] = "a stream", [EVENT] = "an event", [GRAPH] = "a graph",
                                        [EXEC] = "an executable graph", [MODULE] = "a module" };
    for (object *o = objects; o; o = o->next) {
        if (o->context != context || o->dead || o->kind == CONTEXT) continue;
        if (names[o->kind]) report("leak", "%s was left when its context ended", names[o->kind]);
        o->dead = 1;
    }
    end_memory(context);
    context->object.dead = 1;
}

/* every function of cuda.h that is not here calls this */
EXPORT int testcuda_missing(const char *name) {
    pthread_mutex_lock(&lock);
    report(name, "is not in this driver");
    pthread_mutex_unlock(&lock);
    return CUDA_ERROR_NOT_SUPPORTED;
}

/* A new machine. unified: a Jetson. bytes: of device memory. capability: 87 for 8.7. */
EXPORT void testcuda_start(long is_unified, long bytes, long compute_capability) {
    pthread_mutex_lock(&lock);
    for (object *o = objects; o; o = o->next) {
        if (!o->old) free_work(o);
        o->dead = o->old = 1;
    }
    forget_memory();
    forget_launches();
    for (count *c = counts, *next; c; c = next) { next = c->next; free(c); }
    counts = NULL;
    memset(faults, 0, sizeof faults);
    reported = 0;
    *reports = 0;
    unified = is_unified, most_bytes = bytes, capability = compute_capability;
    sticky = CUDA_SUCCESS;
    initialised = depth = 0;
    start_streams();
    pthread_mutex_unlock(&lock);
}
/* What was wrong since the last time somebody asked, a line each. */
EXPORT void testcuda_reports(char *out, size_t size) {
    pthread_mutex_lock(&lock);
    snprintf(out, size, "%s", reports);
    reported = 0;
    *reports = 0;
    pthread_mutex_unlock(&lock);
}
/* A function returns this error from now on; 0: no longer. */
EXPORT void testcuda_fail(const char *name, int error) {
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        if (!faults[i].error || !strcmp(faults[i].name, name)) {
            snprintf(faults[i].name, sizeof faults[i].name, "%s", name);
            faults[i].error = error;
            break;
        }
    pthread_mutex_unlock(&lock);
}
EXPORT long testcuda_calls(const char *name) {
    long calls = 0;
    pthread_mutex_lock(&lock);
    for (count *c = counts; c; c = c->next) if (!strcmp(c->name, name)) calls = c->calls;
    pthread_mutex_unlock(&lock);
    return calls;
}
/* How many there are: "device" and "pinned" blocks of memory, "retained" primary contexts, or handles of a kind. */
EXPORT long testcuda_live(const char *what) {
    static const char *names[KINDS] = { [CONTEXT] = "contexts", [STREAM] = "streams", [EVENT] = "events",
                                        [GRAPH] = "graphs", [EXEC] = "execs", [MODULE] = "modules" };
    long live = 0;
    pthread_mutex_lock(&lock);
    if (!strcmp(what, "device") || !strcmp(what, "pinned")) live = count_blocks(!strcmp(what, "pinned"));
    for (object *o = objects; o; o = o->next) {
        if (o->dead) continue;
        if (o->kind == STREAM && !o->context) continue;     /* the default stream */
        if (names[o->kind] && !strcmp(names[o->kind], what)) live++;
        if (o->kind == EVENT && !strcmp(what, "sleeping events"))
            live += !!(((CUevent)o)->flags & CU_EVENT_BLOCKING_SYNC);
        if (o->kind == STREAM && !strcmp(what, "non-blocking streams")) live += !((CUstream)o)->blocking;
        if (o->kind == CONTEXT && !strcmp(what, "retained")) live += ((CUcontext)o)->references;
    }
    pthread_mutex_unlock(&lock);
    return live;
}
/* this thread's stack of contexts, from the bottom; NULL behind its end */
EXPORT CUcontext testcuda_stack(int index) { return index < depth ? stack[index] : NULL; }
EXPORT void testcuda_clear_stack(void) { depth = 0; }

EXPORT CUresult cuInit(unsigned flags) {
    ENTER(NOTHING);
    if (flags) FAIL(CUDA_ERROR_INVALID_VALUE, "flags must be 0");
    initialised = 1;
    return CUDA_SUCCESS;
}
EXPORT CUresult cuGetErrorString(CUresult error, const char **text) {
    static __thread char buffer[40];
    snprintf(buffer, sizeof buffer, error == CUDA_ERROR_OUT_OF_MEMORY ? "out of memory" : "CUDA error %d", error);
    *text = buffer;
    return CUDA_SUCCESS;
}
