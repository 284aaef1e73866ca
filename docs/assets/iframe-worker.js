// Browsers refuse workers to pages that are opened from a folder on disk: there the search runs in a hidden frame.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      frame.srcdoc = `<script src="${url}"></script>`;
      this.inside = new Promise((ready) => {
        frame.onload = () => {
          const post = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
          ready(Object.assign(frame.contentWindow, { postMessage: post }));
        };
      });
      document.body.append(frame);
    }

    postMessage(data) {
      this.inside.then((inside) => inside.dispatchEvent(new MessageEvent("message", { data })));
    }
  };
}
