// Images that were opened: labelled by POST /v1/faces, chosen in a strip of thumbnails.

import { request } from "./api.js";
import { make } from "./palette.js";

export class Images {
  #strip; #onShow; #say;
  #addresses = [];
  limits = { images: 16 };

  // onShow(image, result): an image is chosen. say(text): something went wrong.
  constructor(strip, onShow, say) {
    this.#strip = strip;
    this.#onShow = onShow;
    this.#say = say;
  }

  clear() {
    for (const address of this.#addresses) URL.revokeObjectURL(address);
    this.#addresses = [];
    this.#strip.replaceChildren();
  }

  // One request for each, so that one broken image does not cost the others.
  async add(files) {
    let first = true;
    for (const file of files) {
      try {
        const form = new FormData();
        form.append("image", file);
        const answer = await request("/v1/faces", { method: "POST", body: form });
        const image = await createImageBitmap(file);
        const button = this.#thumbnail(file, image, (await answer.json()).images[0]);
        if (first) button.click();
        first = false;
      } catch (error) {
        this.#say(`${file.name}: ${error.message}`);
      }
    }
  }

  #thumbnail(file, image, result) {
    const button = make("button"), picture = make("img"), item = make("li");
    const address = URL.createObjectURL(file);
    this.#addresses.push(address);
    picture.src = address;
    const count = result.faces.length;
    picture.alt = `${file.name}, ${count} ${count === 1 ? "face" : "faces"}`;
    button.type = "button";
    button.append(picture);
    button.addEventListener("click", () => {
      for (const other of this.#strip.querySelectorAll("button")) other.removeAttribute("aria-current");
      button.setAttribute("aria-current", "true");
      this.#onShow(image, result);
    });
    item.append(button);
    this.#strip.append(item);
    return button;
  }
}
