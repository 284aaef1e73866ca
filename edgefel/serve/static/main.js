// The page of `edgefel serve`: frames and images go to the server.

import { request, setUpLogout, tokenOfAddress } from "./api.js";
import { openPage } from "./page.js";
import { Sender, Watcher } from "./streams.js";

setUpLogout();
openPage({
  async describe() {
    await tokenOfAddress();
    const model = await (await request("/v1/model")).json();
    document.getElementById("logout").hidden = !model.token_needed;
    return {
      labels: model.labels,
      text: `${model.name}, ${model.precision}, ${model.backend}`,
      live: model.live?.description,
    };
  },
  async label(file) {
    const form = new FormData();
    form.append("image", file);
    return (await (await request("/v1/faces", { method: "POST", body: form })).json()).images[0];
  },
  follow: (...about) => new Sender(...about),
  watch: (...about) => new Watcher(...about),
});
