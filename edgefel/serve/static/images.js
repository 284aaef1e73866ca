// Images that were opened: labelled one by one, chosen in a strip of thumbnails.

import { make } from "./palette.js";

export class Images {
  #strip; #onShow; #say; #label;
  #addresses = [];

  // onShow(image, result): an image is chosen. say(text): something went wrong. label(file): async, the result.
  constructor(strip, onShow, say, label) {
    this.#strip = strip;
    this.#onShow = onShow;
    this.#say = say;
    this.#label = label;
  }

  clear() {
    for (const address of this.#addresses) URL.revokeObjectURL(address);
    this.#addresses = [];
    this.#strip.replaceChildren();
  }

  // One by one, so that one broken image does not cost the others.
  async add(files) {
    let first = true;
    for (const file of files) {
      try {
        const result = await this.#label(file);
        const image = await createImageBitmap(file);
        const button = this.#thumbnail(file, image, result);
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
