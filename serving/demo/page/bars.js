// One bar for each class: its name, its probability as a length and as a number, and a mark at the true class.

import { element } from "./picture.js";
import { likeliest, percent } from "./story.js";

export class Bars {
  /** @param {HTMLElement} list */
  constructor(list) {
    this.list = list;
  }

  /**
   * @param {string[]} labels
   * @param {number | null} truth
   */
  build(labels, truth) {
    this.list.replaceChildren(
      ...labels.map((label, index) => {
        const item = element("li", index === truth ? "truth" : "");
        const meter = element("span", "meter");
        meter.setAttribute("role", "meter");
        meter.setAttribute("aria-label", index === truth ? `${label}, the true class` : label);
        meter.setAttribute("aria-valuemin", "0");
        meter.setAttribute("aria-valuemax", "100");
        meter.append(element("i"));
        item.append(element("span", "name", label), meter, element("span", "value"));
        if (index === truth) item.append(element("span", "badge", "true class"));
        return item;
      }),
    );
  }

  /** @param {number[]} beliefs */
  move(beliefs) {
    const best = likeliest(beliefs);
    [...this.list.children].forEach((item, index) => {
      const meter = item.querySelector(".meter");
      item.classList.toggle("best", index === best);
      meter.firstChild.style.width = `${beliefs[index] * 100}%`;
      meter.setAttribute("aria-valuenow", (beliefs[index] * 100).toFixed(3));
      meter.setAttribute("aria-valuetext", percent(beliefs[index]));
      item.querySelector(".value").textContent = percent(beliefs[index]);
    });
  }
}
